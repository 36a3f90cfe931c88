"""Where workspaces lie."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from runner.names import SessionRef


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

    async def remove(self, session: SessionRef) -> None:
        """Remove it with all in it. Idempotent."""
        await asyncio.to_thread(shutil.rmtree, self.path(session), ignore_errors=True)

    def _make(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True, mode=0o755)
        if os.geteuid() == 0:
            owner = self._new_owner()
            os.chown(path, owner, owner)
