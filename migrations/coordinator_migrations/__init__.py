"""Database migrations, applied by the core at start (or by the `tortoise` command, see docs/operations.md)."""
