"""What is kept: tables, repositories and the event log, on SQLite or PostgreSQL by tortoise-orm."""
