"""Bring a database's schema to the newest version, one process at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from servicekit.migrations import upgrade as migrations
from sqlalchemy.engine import Connection

from session.storage.database import Database
from session.storage.transaction import Transaction

_VERSIONS: Final = Path(__file__).parent / "versions"

# Any number that no other program takes on the same database.
_LOCK: Final = 7_306_412_001


async def upgrade(database: Database, revision: str = "head") -> None:
    """Apply what is missing, in one transaction. Replicas that start at once wait for one another."""

    def run(connection: Connection) -> None:
        migrations.upgrade(
            connection, _VERSIONS, version_table="session_schema_version", lock=_LOCK, revision=revision
        )

    async def work(tx: Transaction) -> None:
        await tx.run_sync(run)

    await database.run(work)
