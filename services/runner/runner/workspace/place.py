"""Where workspaces lie."""

from __future__ import annotations

import asyncio
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from runner.names import SessionRef

# No tenant's folder has such a name.
_UNCLAIMED: Final = "unclaimed"
# Half a second's work; a session with more gets an agent booted on its own folder.
_MOVED: Final = 20_000


class Workspaces:
    """Folders of sessions below `root`, by tenant. A folder's owner is its sandbox's user on the host."""

    def __init__(self, root: Path, new_owner: Callable[[], int]) -> None:
        self._root = root
        self._new_owner = new_owner

    def path(self, session: SessionRef) -> Path:
        """Return where a session's workspace lies or would lie."""
        return self._root / session.folder

    def existing(self, session: SessionRef) -> Path:
        """Return where it lies. Raises Failure SESSION_NOT_FOUND when it has none here."""
        path = self.path(session)
        if not path.is_dir():
            raise Failure(
                errors_pb2.ERROR_REASON_SESSION_NOT_FOUND, f"There is no workspace of {session.name} here."
            )
        return path

    async def ensure(self, session: SessionRef) -> Path:
        """Return where it lies, made if it is new."""
        path = self.path(session)
        if not path.is_dir():
            await asyncio.to_thread(self._make, path)
        return path

    async def make_unclaimed(self) -> Path:
        """Make one that no session has yet."""
        path = self._root / _UNCLAIMED / uuid.uuid4().hex
        await asyncio.to_thread(self._make, path)
        return path

    async def claim(self, unclaimed: Path, session: SessionRef) -> Path:
        """Make an unclaimed one the session's, with all that was written for it before.

        It stays the same folder, so a sandbox that is on it stays on it. Raises Failure WORKSPACE_FULL, with
        nothing changed, when the session has too many files to be moved at once.
        """
        return await asyncio.to_thread(self._claim, unclaimed, self.path(session))

    async def discard(self, unclaimed: Path) -> None:
        """Remove an unclaimed one."""
        await asyncio.to_thread(shutil.rmtree, unclaimed, ignore_errors=True)

    async def clear_unclaimed(self) -> None:
        """Remove what an earlier runner left unclaimed."""
        await asyncio.to_thread(shutil.rmtree, self._root / _UNCLAIMED, ignore_errors=True)

    async def remove(self, session: SessionRef) -> None:
        """Remove it with all in it. Idempotent."""
        await asyncio.to_thread(shutil.rmtree, self.path(session), ignore_errors=True)

    def _make(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True, mode=0o755)
        if os.geteuid() == 0:
            owner = self._new_owner()
            os.chown(path, owner, owner)

    def _claim(self, unclaimed: Path, path: Path) -> Path:
        owner = unclaimed.stat().st_uid
        if path.is_dir():
            _hand_over(path, owner)
            _move_all(path, unclaimed)
            path.rmdir()
        path.parent.mkdir(parents=True, exist_ok=True)
        return unclaimed.rename(path)


def _move_all(source: Path, target: Path) -> None:
    """Move what lies in a folder, all of it or nothing."""
    moved: list[str] = []
    try:
        for entry in list(source.iterdir()):
            entry.rename(target / entry.name)
            moved.append(entry.name)
    except OSError:
        for name in moved:
            (target / name).rename(source / name)
        raise


def _hand_over(folder: Path, owner: int) -> None:
    """Give all that lies in a folder to another owner. Links are given, not followed."""
    count = 0
    for _, folders, files, descriptor in os.fwalk(folder):
        count += len(folders) + len(files)
        if count > _MOVED:
            raise Failure(
                errors_pb2.ERROR_REASON_WORKSPACE_FULL,
                "The workspace has too many files to be moved at once.",
            )
        if os.geteuid() == 0:
            for name in (*folders, *files):
                os.chown(name, owner, owner, dir_fd=descriptor, follow_symlinks=False)
