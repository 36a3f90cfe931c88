"""Shared folders: resolved beneath the workspace that they lie in, and from then on held, not named.

The agent of that workspace may swap any folder on the way for a link while we look. So the kernel resolves
the path once, beneath the workspace and through no link, and what is shown in the other sandbox is what was
resolved then: a descriptor of it is handed on, and no path is looked up again.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from runner.lifecycle.settings import Share
from runner.names import SessionRef
from runner.threads import to_the_end
from runner.workspace.door import Door
from runner.workspace.place import Workspaces

_FLAGS: Final = os.O_PATH | os.O_DIRECTORY


@dataclass(frozen=True)
class Shown:
    """Folders that were found. `descriptors` are by name, and open for as long as `shown` is entered."""

    descriptors: Mapping[str, int]
    identity: frozenset[tuple[str, int, int]]
    """Names with device and inode: what is shown under a name is the same folder as long as this is equal.
    A folder that is shown somewhere keeps its inode, so a new one never has the same."""


NOTHING: Final = Shown({}, frozenset())


class SharedFolders:
    """Finds what sessions share: within one tenant, and within one account as far as it is known here."""

    def __init__(self, workspaces: Workspaces) -> None:
        self._workspaces = workspaces
        self.held: Counter[tuple[int, int]] = Counter()
        """Folders that are open now, by device and inode: what a sandbox that boots is about to see."""

    @asynccontextmanager
    async def shown(
        self, reader: SessionRef, account: str, shares: tuple[Share, ...]
    ) -> AsyncIterator[Shown]:
        """Open what a session is to see. Raises Failure SHARED_FOLDER_NOT_FOUND."""
        if not shares:
            yield NOTHING
            return
        found: dict[Share, int] = {}
        held: list[tuple[int, int]] = []
        with ExitStack() as stack:
            stack.callback(self._let_go, held)
            for share in shares:
                owner = SessionRef(reader.tenant, share.session_id)
                await self._check(owner, account, share)
                # While somebody puts files there from outside, they are half there.
                async with self._workspaces.changing.hold(owner):
                    await to_the_end(self._open, stack, found, owner, share)
                    held.append(_identity(found[share]))
                    self.held.update([held[-1]])
            yield _shown(found)

    def _let_go(self, held: list[tuple[int, int]]) -> None:
        self.held.subtract(held)
        for folder in held:
            if self.held[folder] <= 0:
                del self.held[folder]

    async def _check(self, owner: SessionRef, account: str, share: Share) -> None:
        if await to_the_end(self._workspaces.accounts.of, owner) not in (None, account):
            raise _not_found(owner, share)
        if not share.path:
            # Nothing has been in it yet, and what comes will be seen.
            try:
                await self._workspaces.ensure(owner)
            except Failure as deleted:
                raise _not_found(owner, share) from deleted

    def _open(self, stack: ExitStack, found: dict[Share, int], owner: SessionRef, share: Share) -> None:
        """Open one, for as long as the stack is: also when nobody waits for it any more."""
        found[share] = self._open_one(owner, share)
        stack.callback(os.close, found[share])

    def _open_one(self, owner: SessionRef, share: Share) -> int:
        try:
            with Door(self._workspaces.path(owner)) as door:
                return door.open(share.path, _FLAGS)
        except (Failure, OSError) as error:
            raise _not_found(owner, share) from error


def _shown(found: Mapping[Share, int]) -> Shown:
    identity = set()
    for share, descriptor in found.items():
        identity.add((share.name, *_identity(descriptor)))
    return Shown({share.name: descriptor for share, descriptor in found.items()}, frozenset(identity))


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _not_found(owner: SessionRef, share: Share) -> Failure:
    what = f"the folder {share.path!r} of {owner.name}" if share.path else f"the workspace of {owner.name}"
    return Failure(
        errors_pb2.ERROR_REASON_SHARED_FOLDER_NOT_FOUND,
        f"/shared/{share.name} cannot be shown: {what} is not there, is no folder, or is behind a link. "
        "Share another folder, or take this one out of the session's shared_folders.",
        session=owner.name,
        path=share.path[:256],
        name=share.name,
    )
