"""Where workspaces lie."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pointsman.errors.v1 import errors_pb2
from servicekit.durable import make_private_folder, sync_folder
from servicekit.errors import Failure

from runner.keyed_locks import KeyedLocks
from runner.names import SessionRef
from runner.threads import to_the_end
from runner.workspace.accounts import Accounts
from runner.workspace.remove import remove_folder

# No tenant's folder has such names.
_UNCLAIMED: Final = "unclaimed"
_ACCOUNTS: Final = "accounts"
# A session with more files than that takes gets an agent booted on its own folder.
_HAND_OVER_SECONDS: Final = 5.0
# Of sessions that were deleted while something for them was under way; that takes minutes at the most, and a
# restart ends it. Each is some 200 bytes.
_REMEMBERED: Final = 10_000


class Workspaces:
    """Folders of sessions below `root`, by tenant. A folder's owner is its sandbox's user on the host."""

    def __init__(self, root: Path, new_owner: Callable[[], int]) -> None:
        self._root = root
        self._new_owner = new_owner
        self._removed: OrderedDict[SessionRef, None] = OrderedDict()
        self.changing: KeyedLocks[SessionRef] = KeyedLocks()
        """Held by whoever changes a workspace from outside of its sandbox."""
        self.accounts = Accounts(root / _ACCOUNTS)
        self._synced: OrderedDict[SessionRef, None] = OrderedDict()

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

    def check(self, session: SessionRef, *, made: bool = False) -> None:
        """Raise Failure SESSION_NOT_FOUND when the session was deleted.

        `made`: WORKSPACE_MISSING when it has no workspace here, because there is something in it.
        """
        if session in self._removed:
            raise Failure(errors_pb2.ERROR_REASON_SESSION_NOT_FOUND, f"{session.name} has been deleted.")
        if made and not self.path(session).is_dir():
            raise workspace_missing(session)

    async def ensure(self, session: SessionRef) -> Path:
        """Return where it lies, made if it is new. SESSION_NOT_FOUND when the session was deleted."""
        self.check(session)
        path = self.path(session)
        if not path.is_dir():
            await to_the_end(self._make, path)
        return path

    def sync(self, session: SessionRef) -> None:
        """Make sure that a power cut does not take the workspace's folder. Blocks, once for each session.

        Due before something is in it that its session counts on. OSError, Failure WORKSPACE_MISSING.
        """
        if session not in self._synced:
            try:
                sync_folder(self.path(session).parent)
            except FileNotFoundError:
                raise workspace_missing(session) from None
            self._synced[session] = None
            if len(self._synced) > _REMEMBERED:
                self._synced.popitem(last=False)

    async def make_unclaimed(self) -> Path:
        """Make one that no session has yet."""
        path = self._root / _UNCLAIMED / uuid.uuid4().hex
        await to_the_end(self._make, path)
        return path

    async def claim(self, unclaimed: Path, session: SessionRef, unless: Callable[[], bool]) -> Path:
        """Make an unclaimed one the session's, with all that was written for it before.

        It stays the same folder, so a sandbox that is on it stays on it. OSError, with nothing changed, when
        the session's files cannot be moved, or when `unless`, which is asked last, says so. SESSION_NOT_FOUND
        when the session was deleted.
        """
        self.check(session)
        async with self.changing.hold(session):
            if unless():
                raise OSError("the folder that would go is seen by others")
            return await to_the_end(_claim, unclaimed, self.path(session))

    async def discard(self, unclaimed: Path) -> None:
        """Remove an unclaimed one."""
        await to_the_end(remove_folder, unclaimed)

    async def clear_unclaimed(self) -> None:
        """Remove what an earlier runner left unclaimed."""
        await to_the_end(remove_folder, self._root / _UNCLAIMED)

    def clear_left_over(self) -> None:
        """Remove what an earlier runner was about to put in a workspace's place, or had replaced. Blocks."""
        for left in self._root.glob("*/.*"):
            remove_folder(left)

    async def remove(self, session: SessionRef) -> None:
        """Remove it with all in it, for good: nothing that comes late makes it again. Idempotent."""
        self._removed[session] = None
        while len(self._removed) > _REMEMBERED:
            self._removed.popitem(last=False)
        await to_the_end(remove_folder, self.path(session))
        self.accounts.forget(session)

    def _make(self, path: Path) -> None:
        make_private_folder(path.parent)
        path.mkdir(exist_ok=True)
        # Its user decides from now on; other users of the machine cannot pass the folders above it.
        path.chmod(0o755)
        if os.geteuid() == 0:
            owner = self._new_owner()
            os.chown(path, owner, owner)


def workspace_missing(session: SessionRef) -> Failure:
    """Return the failure for a session whose files should be here and are not."""
    return Failure(
        errors_pb2.ERROR_REASON_WORKSPACE_MISSING,
        f"The files of {session.name} are not on this runner: its volume was lost or replaced, or another "
        "runner has them. Nothing was run. Bring the volume back, restore a snapshot of the session, or fork "
        "it or start a new one.",
    )


def _claim(unclaimed: Path, path: Path) -> Path:
    moved: list[str] = []
    try:
        if path.is_dir():
            _hand_over(path, unclaimed.stat().st_uid)
            for entry in list(path.iterdir()):
                entry.rename(unclaimed / entry.name)
                moved.append(entry.name)
        make_private_folder(path.parent)
        # It takes the place of an empty folder, and of nothing else.
        return unclaimed.rename(path)
    except OSError:
        for name in moved:
            (unclaimed / name).rename(path / name)
        raise


def _hand_over(folder: Path, owner: int) -> None:
    """Give all that lies in a folder to another owner. Links are given, not followed."""
    if os.geteuid() != 0:
        return
    try:
        subprocess.run(
            ["chown", "-hR", f"{owner}:{owner}", "--", str(folder)],
            check=True,
            capture_output=True,
            timeout=_HAND_OVER_SECONDS,
            env={"PATH": os.defpath},
        )
    except subprocess.SubprocessError as error:
        raise OSError("the files could not be given to another owner") from error
