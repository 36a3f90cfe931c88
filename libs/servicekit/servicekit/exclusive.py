"""A directory or file that belongs to one process: this one, or none of it starts."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servicekit.config import ConfigError
from servicekit.durable import PRIVATE_FILE, make_private_folder


@contextmanager
def exclusive(lock: Path, in_use: str) -> Iterator[None]:
    """Hold a lock, which ends with the process however that ends; ConfigError `in_use` if another has it."""
    make_private_folder(lock.parent)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(in_use) from None
        yield
    finally:
        os.close(descriptor)
