"""A SQLite file belongs to one process: this one, or none of it starts."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from servicekit.exclusive import exclusive


def only_owner(database: Path) -> AbstractContextManager[None]:
    """Hold the file's lock; ConfigError if another process has it."""
    return exclusive(
        database.with_name(database.name + ".lock"),
        f"DATABASE_URL: {database} is in use by another session service; stop that one, or set "
        "POINTSMAN_DATA_DIR to another directory",
    )
