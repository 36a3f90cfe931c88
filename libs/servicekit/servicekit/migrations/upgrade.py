"""Bring a database's schema to the newest version, one process at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.engine import Connection

_ENVIRONMENT: Final = str(Path(__file__).parent)


def upgrade(
    connection: Connection, versions: Path, *, version_table: str, lock: int, revision: str = "head"
) -> None:
    """Apply what is missing of the migrations in the folder `versions`, in the connection's transaction.

    `lock` is a number that no other program takes on the same PostgreSQL: replicas that start at once wait
    for one another. It is freed by the end of the transaction, also when the process dies.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": lock})
    config = Config()
    config.set_main_option("script_location", _plain(_ENVIRONMENT))
    config.set_main_option("version_locations", _plain(str(versions)))
    config.set_main_option("path_separator", "newline")
    config.attributes["connection"] = connection
    config.attributes["version_table"] = version_table
    command.upgrade(config, revision)


def _plain(path: str) -> str:
    # Alembic's configuration takes a lone percent sign for the beginning of a reference.
    return path.replace("%", "%%")
