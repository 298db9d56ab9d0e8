"""Configuration for the `tortoise` command: `COORDINATOR_DATABASE_URL`, else an in-memory SQLite."""

from __future__ import annotations

import os

from coordinator.store.database import orm_config

TORTOISE_ORM = orm_config(os.environ.get("COORDINATOR_DATABASE_URL", "sqlite://:memory:"))
