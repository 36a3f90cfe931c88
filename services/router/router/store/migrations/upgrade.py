"""Bring the schema to the newest version, one process at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.engine import Connection

from router.store.database import Database

# Any number that no other program takes on the same database.
_LOCK: Final = 7_306_412_002


async def upgrade(database: Database) -> None:
    """Apply what is missing, in one transaction. Replicas that start at once wait for one another."""
    async with database.engine.begin() as connection:
        if database.postgres:
            # Freed by the end of the transaction, also when the process dies.
            await connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        await connection.run_sync(_run)


def _run(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
