"""Agents booted ahead, so that a new session's first turn does not wait for one."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import structlog
from pointsman.session.v1 import event_pb2
from servicekit.errors import Failure

from runner.agent_options import PermissionModeName
from runner.places import Places
from runner.sandbox import Boot, Sandbox, SandboxMaker
from runner.workspace.place import Workspaces

# After a claim the claimed one starts its turn; booting beside it would slow both on a small machine.
_SETTLE_SECONDS: Final = 0.5
# After a boot that failed.
_RETRY_SECONDS: Final = 10.0
_MODE: Final[PermissionModeName] = "acceptEdits"

_log = structlog.get_logger("runner.pool")


class Pool:
    """Keeps up to `size` agents booted and frozen, for the boot that was wanted last.

    Each holds a place. The pool takes only places that are free, and gives them up to whoever needs one.
    """

    def __init__(self, maker: SandboxMaker, workspaces: Workspaces, places: Places, size: int) -> None:
        self._maker = maker
        self._workspaces = workspaces
        self._places = places
        self._size = size
        self._wanted: Boot | None = None
        self._ready: list[Sandbox] = []
        self._stale: list[Sandbox] = []
        self._look = asyncio.Event()

    def sandboxes(self) -> list[Sandbox]:
        """Return those that are ready."""
        return list(self._ready)

    @property
    def wants(self) -> bool:
        """Whether anybody has said what to boot."""
        return self._wanted is not None

    def want(self, boot: Boot) -> None:
        """Say what new sessions are booted with; what waits with another boot is ended."""
        if boot != self._wanted:
            self._wanted = boot
            self._stale += self._ready
            self._ready = []
        self._look.set()

    async def take(self, boot: Boot) -> Sandbox | None:
        """Return a booted one, awake, with its place, or None. Its session is the caller's to set."""
        for sandbox in list(self._ready):
            if sandbox.boot != boot:
                continue
            self._ready.remove(sandbox)
            self._look.set()
            await sandbox.wake()
            if not sandbox.agent.ended.is_set():
                return sandbox
            await self._end(sandbox)
        return None

    async def discard(self, sandbox: Sandbox) -> None:
        """End one that was taken and could not be used, with its place."""
        await self._end(sandbox)

    async def give_up_one(self) -> bool:
        """End one to make room; return whether there was one."""
        spare = self._stale or self._ready
        if not spare:
            return False
        await self._end(spare.pop())
        return True

    async def keep(self) -> None:
        """Keep the pool full, for ever."""
        while True:
            await self._look.wait()
            self._look.clear()
            await asyncio.sleep(_SETTLE_SECONDS)
            while self._stale:
                await self._end(self._stale.pop())
            while (
                self._wanted is not None and len(self._ready) < self._size and self._places.try_take_spare()
            ):
                await self._add(self._wanted)

    async def close(self) -> None:
        """End all."""
        left = [*self._ready, *self._stale]
        self._ready, self._stale = [], []
        await asyncio.gather(*(self._end(sandbox) for sandbox in left), return_exceptions=True)

    async def _add(self, boot: Boot) -> None:
        workspace = await self._workspaces.make_unclaimed()
        try:
            sandbox = await self._maker.boot(
                session=None, workspace=workspace, boot=boot, mode=_MODE, store=None, transcript=[]
            )
        except BaseException as error:
            await self._workspaces.discard(workspace)
            self._places.give()
            if not isinstance(error, Failure):
                raise
            _log.warning("pool_boot_failed", reason=error.reason_name)
            await asyncio.sleep(_RETRY_SECONDS)
            self._look.set()
            return
        if boot == self._wanted:
            await sandbox.pause()
            self._ready.append(sandbox)
            # It can be given up for somebody who came while it was booted.
            self._places.tell()
        else:
            await self._end(sandbox)

    async def _end(self, sandbox: Sandbox) -> None:
        sandbox.state = event_pb2.SANDBOX_STATE_HIBERNATED
        try:
            with contextlib.suppress(TimeoutError):
                await sandbox.end()
        finally:
            await self._workspaces.discard(sandbox.workspace)
            self._places.give()
