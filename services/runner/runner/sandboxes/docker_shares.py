"""Shared folders where a Docker Engine finds them: mounted below a folder of the runner's own.

An engine takes paths only, and the path that a shared folder has may be swapped for a link at any time. So
the runner mounts the folder that was resolved at a place that nobody else can change, names that to the
engine, and takes it off as soon as the container has it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from runner.sandboxes import mounts
from runner.sandboxes.protocol import SHARED

_MARK: Final = ".not-mounted-"
# What lies below each mount. Where it shows, the engine has not seen the mount, and no agent is started.
_CHECK: Final = f"""
for folder in {SHARED}/*/; do
    if [ -e "$folder$0" ]; then
        echo "the engine does not see the runner's mounts: neither of them may be in a container" >&2
        exit 1
    fi
done
exec "$@"
"""


class PlacedShares:
    """The shared folders of one container that is about to start. `folder` is below the engine's state."""

    def __init__(self, folder: Path, shared: Mapping[str, int]) -> None:
        self._folder = folder
        self._shared = shared
        self._mark = f"{_MARK}{secrets.token_hex(16)}"

    @property
    def places(self) -> Mapping[str, Path]:
        """Where each is on the host, by name."""
        return {name: self._folder / name for name in self._shared}

    def checked(self, command: Sequence[str]) -> list[str]:
        """Return the command, which refuses to start where a mount is missing."""
        return ["sh", "-c", _CHECK, self._mark, *command]

    def put(self) -> None:
        """Mount all. Raises Failure SANDBOX_START_FAILED; `take_off` is due in any case."""
        try:
            for name, place in self.places.items():
                place.mkdir(parents=True)
                # The sandbox's user has to see it, whatever the umask.
                place.chmod(0o755)
                (place / self._mark).touch()
                tree = mounts.detached(self._shared[name])
                try:
                    mounts.attach(tree, place)
                finally:
                    os.close(tree)
        except OSError as error:
            raise Failure(
                errors_pb2.ERROR_REASON_SANDBOX_START_FAILED,
                f"A shared folder could not be mounted for Docker: {error.strerror}. It needs a runner "
                "that is root, and Linux 5.12.",
            ) from error

    def take_off(self) -> None:
        """Take all off; a container that has them keeps them. Idempotent."""
        clear(self._folder)


def clear(folder: Path) -> None:
    """Take off what is mounted on the folders in a folder, and remove it."""
    for place in folder.glob("*"):
        # One that is not mounted, says the kernel.
        with contextlib.suppress(OSError):
            mounts.take_off(place)
        # By name: what is behind a mount that would not go is not ours.
        with contextlib.suppress(OSError):
            for mark in place.glob(f"{_MARK}*"):
                mark.unlink()
            place.rmdir()
    with contextlib.suppress(OSError):
        folder.rmdir()
