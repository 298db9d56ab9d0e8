"""Opening the database: connection, migrations, closing."""

from __future__ import annotations

from typing import Any

from tortoise import Tortoise
from tortoise.backends.base.config_generator import expand_db_url
from tortoise.backends.base.executor import EXECUTOR_CACHE
from tortoise.connection import get_connection
from tortoise.migrations.executor import MigrationExecutor
from tortoise.migrations.recorder import MigrationRecorder
from tortoise.transactions import in_transaction

APP = "coordinator"
# Any number: what the advisory lock of migrations is called.
MIGRATION_LOCK = 0x636F6F7264


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


def is_postgres() -> bool:
    """Whether the open database is PostgreSQL, which several cores may share."""
    return get_connection("default").capabilities.dialect == "postgres"


async def open_database(database_url: str) -> None:
    """Applies missing migrations and connects; the connection serves every task of the process."""
    config = orm_config(database_url)
    try:
        await Tortoise.init(config=config, init_connections=False)
        await _migrate(config["apps"])
        await Tortoise.close_connections()
        await Tortoise.init(config=config, _enable_global_fallback=True)
    except BaseException:
        # SQLite's connection has a thread, which would keep the process alive.
        await Tortoise.close_connections()
        raise


async def close_database() -> None:
    """Closes every connection."""
    await Tortoise.close_connections()
    # Statements are kept by the connection's name, and the next database may want another dialect.
    EXECUTOR_CACHE.clear()


class _Recorder(MigrationRecorder):
    """Its table is there already: creating it inside of a transaction would commit that on SQLite."""

    async def ensure_schema(self, schema_editor: Any) -> None:
        """Nothing to do."""


async def _migrate(apps: dict[str, dict[str, Any]]) -> None:
    """All migrations and the note that they were applied in one transaction.

    `tortoise.migrations.api.migrate` commits them one after the other: killed in between, a core could never
    start again.
    """
    executor = MigrationExecutor(get_connection("default"), apps)
    await executor.recorder.ensure_schema(executor._schema_editor(atomic=False))
    async with in_transaction("default") as connection:
        if is_postgres():
            # Cores that start together migrate one after the other; the second finds nothing to do.
            await connection.execute_query("SELECT pg_advisory_xact_lock($1)", [MIGRATION_LOCK])
        executor = MigrationExecutor(connection, apps)
        executor.recorder = executor.loader.recorder = _Recorder(connection)
        await executor.migrate()
