"""Bring the ledger's schema to the newest version, one process at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from servicekit.migrations import upgrade as migrations
from sqlalchemy import Connection

_VERSIONS: Final = Path(__file__).parent / "versions"

# Any number that no other program takes on the same database.
_LOCK: Final = 7_306_412_003


def upgrade(connection: Connection) -> None:
    """Apply what is missing, in the connection's transaction."""
    migrations.upgrade(connection, _VERSIONS, version_table="llm_schema_version", lock=_LOCK)
