"""Database migrations, applied by the core at its start; see docs/operations.md."""
