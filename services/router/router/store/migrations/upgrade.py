"""Bring the schema to the newest version, one process at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from servicekit.migrations import upgrade as migrations

from router.store.database import Database

_VERSIONS: Final = Path(__file__).parent / "versions"

# Any number that no other program takes on the same database.
_LOCK: Final = 7_306_412_002


async def upgrade(database: Database) -> None:
    """Apply what is missing, in one transaction. Replicas that start at once wait for one another."""
    async with database.engine.begin() as connection:
        await connection.run_sync(
            migrations.upgrade, _VERSIONS, version_table="router_schema_version", lock=_LOCK
        )
