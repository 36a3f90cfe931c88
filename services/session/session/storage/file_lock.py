"""A SQLite file belongs to one process: this one, or none of it starts."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servicekit.config import ConfigError
from servicekit.durable import make_private_folder


@contextmanager
def only_owner(database: Path) -> Iterator[None]:
    """Hold the file's lock, which ends with the process however that ends; ConfigError if another has it."""
    make_private_folder(database.parent)
    descriptor = os.open(database.with_name(database.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"DATABASE_URL: {database} is in use by another session service; stop that one, or set "
                "POINTSMAN_DATA_DIR to another directory"
            ) from None
        yield
    finally:
        os.close(descriptor)
