"""The data directory: one run at a time, and the secrets that a first run makes in it."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from servicekit.keys import create_keys
from servicekit.passport import SERVICE_ISSUERS

from supervisor.refusal import Refusal


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
    data = DataDir(path.resolve())
    try:
        # Others may pass through, not look: sandboxes run as a user of their own and have their files below.
        data.path.mkdir(mode=0o711, parents=True, exist_ok=True)
        for private in (data.keys, data.logs, data.edge):
            private.mkdir(mode=0o700, exist_ok=True)
        lock = (data.path / "lock").open("a+")
    except OSError as error:
        raise Refusal(
            f"POINTSMAN_DATA_DIR: {data.path} cannot be written ({error.strerror}); choose another directory"
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
    """Return the installation's generated key; the first call makes it, readable by its owner only."""
    path = data.path / "api-key"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        key = f"pm_{secrets.token_urlsafe(32)}"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{key}\n")
    return key
