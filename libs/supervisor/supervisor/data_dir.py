"""The data directory: one run at a time, and the secrets that a first run makes in it."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from servicekit.durable import make_private_folder, replace_file
from servicekit.keys import create_keys
from servicekit.passport import SERVICE_ISSUERS
from servicekit.private_data import NotPrivate, open_private

from supervisor.refusal import Refusal

# What an Authorization header can carry.
_KEY: Final = re.compile(r"[!-~]{8,}")


@dataclass(frozen=True)
class DataDir:
    """Where things are in it."""

    path: Path

    @property
    def keys(self) -> Path:
        """Private keys of the services."""
        return self.path / "keys"

    @property
    def jwks(self) -> Path:
        """Public keys of the services."""
        return self.keys / "jwks.json"

    @property
    def logs(self) -> Path:
        """What the processes print."""
        return self.path / "logs"

    @property
    def edge(self) -> Path:
        """Envoy's configuration, filled in."""
        return self.path / "edge"


@contextmanager
def claimed(path: Path) -> Iterator[DataDir]:
    """Make the directory ready and hold it; raises Refusal when another run has it, or it cannot be written.

    The lock is the operating system's: it goes with the process, however that ends.
    """
    try:
        data = DataDir(open_private(path))
        for private in (data.keys, data.logs, data.edge):
            make_private_folder(private)
        lock = (data.path / "lock").open("a+")
    except NotPrivate as error:
        raise Refusal(f"POINTSMAN_DATA_DIR: {error}") from None
    except OSError as error:
        raise Refusal(
            f"POINTSMAN_DATA_DIR: {path.resolve()} cannot be written ({error.strerror}); choose another "
            "directory"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise Refusal(
                f"{data.path} is in use by another run (process {lock.read().strip()}); "
                "stop that one, or set POINTSMAN_DATA_DIR to another directory"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        create_keys(data.keys, SERVICE_ISSUERS)
        yield data


def api_key(data: DataDir) -> str:
    """Return the installation's generated key; the first call makes it, and syncs it before it returns.

    A file without contents holds no key that anybody could have, so it gets a new one. Raises Refusal for a
    file with something else in it.
    """
    path = data.path / "api-key"
    try:
        key = path.read_text(errors="replace").strip()
    except FileNotFoundError:
        key = ""
    if not key:
        key = f"pm_{secrets.token_urlsafe(32)}"
        replace_file(path, f"{key}\n".encode())
    if not _KEY.fullmatch(key):
        raise Refusal(
            f"{path} does not hold an API key: one line of 8 or more letters, digits and punctuation. "
            "Restore it from a backup, or delete it, and the next start makes a new key"
        )
    return key
