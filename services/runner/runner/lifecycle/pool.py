"""Agents booted ahead, so that a new session's first turn does not wait for one."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from typing import Final

import structlog
from pointsman.session.v1 import event_pb2
from servicekit.errors import Failure

from runner.agent.agent_options import PermissionModeName
from runner.agent.seed import Transcript
from runner.lifecycle.places import Places
from runner.lifecycle.sandbox import Boot, Sandbox, SandboxMaker
from runner.workspace.place import Workspaces

# After a claim the claimed one starts its turn; booting beside it would slow both on a small machine.
_SETTLE_SECONDS: Final = 0.5
# After a boot that failed.
_RETRY_SECONDS: Final = 10.0
_MODE: Final[PermissionModeName] = "acceptEdits"
_NO_TEMPLATE: Final = ""

_log = structlog.get_logger("runner.pool")


class Pool:
    """Keeps agents booted and frozen: `size` of them with what a session without a template wanted last, and
    one for each of the `templates` templates that were used last, with what its newest session wanted.

    Each holds a place. The pool takes only places that are free, and gives them up to whoever needs one. It
    has fewer templates where it would have more than half of all places otherwise.
    """

    def __init__(
        self, maker: SandboxMaker, workspaces: Workspaces, places: Places, size: int, templates: int
    ) -> None:
        self._maker = maker
        self._workspaces = workspaces
        self._places = places
        self._size = size
        self._templates = min(templates, max(0, places.limit // 2 - size)) if size > 0 else 0
        # By template, with its tenant; the one used last at the end.
        self._wanted: OrderedDict[str, Boot] = OrderedDict()
        self._ready: list[Sandbox] = []
        self._stale: list[Sandbox] = []
        self._look = asyncio.Event()

    def sandboxes(self) -> list[Sandbox]:
        """Return those that are ready."""
        return list(self._ready)

    @property
    def wants(self) -> bool:
        """Whether anybody has said what to boot for sessions without a template."""
        return _NO_TEMPLATE in self._wanted

    def want(self, template: str, boot: Boot) -> None:
        """Say what new sessions are booted with, of a template of any tenant or '' of none.

        What waits with a boot that nobody wants any more is ended.
        """
        self._wanted[template] = boot
        self._wanted.move_to_end(template)
        while len(self._wanted) - self.wants > self._templates:
            del self._wanted[next(each for each in self._wanted if each != _NO_TEMPLATE)]
        wanted = set(self._wanted.values())
        self._stale += [sandbox for sandbox in self._ready if sandbox.boot not in wanted]
        self._ready = [sandbox for sandbox in self._ready if sandbox.boot in wanted]
        self._look.set()

    async def take(self, boot: Boot) -> Sandbox | None:
        """Return a booted one, awake, with its place, or None. Its session is the caller's to set."""
        for sandbox in list(self._ready):
            if sandbox.boot != boot:
                continue
            self._ready.remove(sandbox)
            self._look.set()
            with contextlib.suppress(OSError):
                await sandbox.wake()
                if not sandbox.agent.ended.is_set():
                    return sandbox
            await self._end(sandbox)
        return None

    async def discard(self, sandbox: Sandbox) -> None:
        """End one that was taken and could not be used, with its place."""
        await self._end(sandbox)

    async def give_up_one(self) -> bool:
        """End one to make room, whose template was not used for longest; return whether there was one."""
        if self._stale:
            await self._end(self._stale.pop())
            return True
        if not self._ready:
            return False
        boots = list(self._wanted.values())
        spare = min(self._ready, key=lambda sandbox: boots.index(sandbox.boot))
        self._ready.remove(spare)
        await self._end(spare)
        return True

    async def keep(self) -> None:
        """Keep the pool full, for ever."""
        while True:
            await self._look.wait()
            self._look.clear()
            await asyncio.sleep(_SETTLE_SECONDS)
            while self._stale:
                await self._end(self._stale.pop())
            while (boot := self._missing()) is not None and self._places.try_take_spare():
                await self._add(boot)

    async def close(self) -> None:
        """End all."""
        left = [*self._ready, *self._stale]
        self._ready, self._stale = [], []
        await asyncio.gather(*(self._end(sandbox) for sandbox in left), return_exceptions=True)

    def _missing(self) -> Boot | None:
        """Return what to boot next, what was wanted last first; None when all that is wanted is there."""
        ready = [sandbox.boot for sandbox in self._ready]
        for template, boot in reversed(self._wanted.items()):
            if template == _NO_TEMPLATE:
                if ready.count(boot) < self._size:
                    return boot
            elif boot not in ready:
                return boot
        return None

    async def _add(self, boot: Boot) -> None:
        workspace = None
        try:
            workspace = await self._workspaces.make_unclaimed()
            sandbox = await self._maker.boot(
                session=None,
                workspace=workspace,
                boot=boot,
                mode=_MODE,
                store=None,
                transcript=Transcript(),
            )
        except BaseException as error:
            self._places.give()
            if workspace is not None:
                await self._workspaces.discard(workspace)
            if not isinstance(error, Failure | OSError):
                raise
            why = error.reason_name if isinstance(error, Failure) else error.strerror
            _log.warning("pool_boot_failed", reason=why)
            await asyncio.sleep(_RETRY_SECONDS)
            self._look.set()
            return
        if boot not in self._wanted.values() or not await self._paused(sandbox):
            await self._end(sandbox)
            return
        self._ready.append(sandbox)
        # It can be given up for somebody who came while it was booted.
        self._places.tell()

    async def _paused(self, sandbox: Sandbox) -> bool:
        try:
            await sandbox.pause()
        except OSError as error:
            _log.warning("not_frozen", sandbox=sandbox.sandbox_id, fault=str(error))
            return False
        return True

    async def _end(self, sandbox: Sandbox) -> None:
        sandbox.state = event_pb2.SANDBOX_STATE_HIBERNATED
        try:
            with contextlib.suppress(TimeoutError, OSError):
                await sandbox.end()
        finally:
            try:
                await self._workspaces.discard(sandbox.workspace)
            except OSError as error:
                # What is left of it is removed at the next start.
                _log.warning("workspace_not_removed", why=error.strerror)
            finally:
                self._places.give()
