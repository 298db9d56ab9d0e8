"""Opening the database: connection, migrations, closing."""

from __future__ import annotations

from typing import Any

from tortoise import Tortoise
from tortoise.backends.base.config_generator import expand_db_url
from tortoise.migrations.api import migrate

APP = "coordinator"


def orm_config(database_url: str) -> dict[str, Any]:
    """tortoise-orm's configuration for a database URL (`sqlite:///path` or `postgres://...`)."""
    connection = expand_db_url(database_url)
    if database_url.startswith("sqlite"):
        # WAL so that readers never wait; FULL so that an answered request survives a power cut.
        connection["credentials"] |= {"journal_mode": "WAL", "synchronous": "FULL", "foreign_keys": "ON"}
    return {
        "connections": {"default": connection},
        "apps": {
            APP: {
                "models": ["coordinator.store.models"],
                "migrations": "coordinator_migrations",
                "default_connection": "default",
            }
        },
        "use_tz": True,
        "timezone": "UTC",
    }


async def open_database(database_url: str) -> None:
    """Applies missing migrations and connects; the connection serves every task of the process."""
    config = orm_config(database_url)
    await migrate(config=config)
    await Tortoise.close_connections()
    await Tortoise.init(config=config, _enable_global_fallback=True)


async def close_database() -> None:
    """Closes every connection."""
    await Tortoise.close_connections()
