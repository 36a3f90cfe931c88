"""Bring a database's schema to the newest version, one process at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.engine import Connection

from session.database import Database
from session.transaction import Transaction

# Any number that no other program takes on the same database.
_LOCK: Final = 7_306_412_001


async def upgrade(database: Database, revision: str = "head") -> None:
    """Apply what is missing, in one transaction. Replicas that start at once wait for one another."""

    async def work(tx: Transaction) -> None:
        if database.postgres:
            # Freed by the end of the transaction, also when the process dies.
            await tx.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        await tx.run_sync(_run, revision)

    await database.run(work)


def _run(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
