"""The life of sandboxes: made when wanted, kept warm, frozen when idle, put to rest when idle for long.

Ended sandboxes cost disk only: the workspace stays, and the transcript is in the session service.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import event_pb2
from servicekit.errors import Failure

from runner.agent.agent_options import PermissionModeName
from runner.agent.seed import Transcript
from runner.agent.transcript import TranscriptStore
from runner.keyed_locks import KeyedLocks
from runner.lifecycle.places import Places
from runner.lifecycle.pool import Pool
from runner.lifecycle.sandbox import Boot, Sandbox, SandboxMaker
from runner.lifecycle.settings import Settings
from runner.lifecycle.shared import SharedFolders, Shown
from runner.names import SessionRef
from runner.workspace.door import disk_failure
from runner.workspace.place import Workspaces
from runner.workspace.usage import allowed_by

_TEND_SECONDS: Final = 1.0
# Between questions to a service that is not there: soon at first, then rarely.
_ASK_SECONDS: Final = 1.0
_ASK_AT_MOST_SECONDS: Final = 30.0

_log = structlog.get_logger("runner.lifecycle")


@dataclass(frozen=True)
class Policy:
    """How many sandboxes, and how long they stay. Seconds."""

    max_instances: int
    pause_after: float
    sleep_after: float
    wait: float
    """For a free place, when all are busy."""
    pool_size: int
    pool_templates: int
    """Templates that have one agent each in the pool, beside the others."""


@dataclass(frozen=True)
class Wish:
    """What a turn needs of its sandbox."""

    session: SessionRef
    account: str
    settings: Settings
    boot: Boot
    mode: PermissionModeName
    store: TranscriptStore


@dataclass(frozen=True)
class Claim:
    """A sandbox for a turn, and how it came to be ready."""

    sandbox: Sandbox
    state: event_pb2.SandboxState.ValueType
    """READY for the first time, RESUMED from paused or hibernated, IDLE when it was warm."""
    seconds: float
    pooled: bool = False


class Lifecycle:
    """All sandboxes of this runner. A session has one at most."""

    def __init__(self, maker: SandboxMaker, workspaces: Workspaces, policy: Policy) -> None:
        self._maker = maker
        self._shared = SharedFolders(workspaces)
        self._workspaces = workspaces
        self._policy = policy
        self._places = Places(policy.max_instances)
        self.pool = Pool(maker, workspaces, self._places, policy.pool_size, policy.pool_templates)
        self._live: dict[SessionRef, Sandbox] = {}
        self._locks: KeyedLocks[SessionRef] = KeyedLocks()
        self._tasks: set[asyncio.Task[None]] = set()

    def sandboxes(self) -> list[Sandbox]:
        """Return those that are alive, the pool's too."""
        return [*self._live.values(), *self.pool.sandboxes()]

    async def claim(self, wish: Wish, starting: Callable[[], None]) -> Claim:
        """Return the session's sandbox, ready and RUNNING; `release` gives it back.

        `starting` is called when one has to be made first. Raises Failure SANDBOXES_BUSY when no place comes
        free in time, SANDBOX_START_FAILED, SHARED_FOLDER_NOT_FOUND, EGRESS_NOT_ALLOWED.
        """
        began = time.monotonic()
        async with self._locks.hold(wish.session), self._shown(wish) as shown:
            sandbox = self._live.get(wish.session)
            if sandbox is not None and (sandbox.agent.ended.is_set() or not sandbox.fits(wish.boot, shown)):
                await self._end(sandbox)
                sandbox = None
            pooled = False
            state: event_pb2.SandboxState.ValueType = event_pb2.SANDBOX_STATE_IDLE
            if sandbox is not None and sandbox.state == event_pb2.SANDBOX_STATE_PAUSED:
                state = event_pb2.SANDBOX_STATE_RESUMED
                sandbox = await self._woken(sandbox)
            if sandbox is None:
                starting()
                sandbox, state, pooled = await self._make(wish, shown)
            sandbox.state = event_pb2.SANDBOX_STATE_RUNNING
            return Claim(sandbox, state, time.monotonic() - began, pooled)

    async def _woken(self, sandbox: Sandbox) -> Sandbox | None:
        """Let a frozen sandbox go on; one that stays frozen is ended, and None is returned."""
        try:
            await sandbox.wake()
        except OSError as error:
            _log.warning("not_thawed", sandbox=sandbox.sandbox_id, fault=str(error))
            await self._end(sandbox)
            return None
        return sandbox

    @asynccontextmanager
    async def _shown(self, wish: Wish) -> AsyncIterator[Shown]:
        """Open what the session is to see, once it is sure that it may have what it asks for."""
        self.check(wish.settings)
        self._workspaces.check(wish.session)
        try:
            account = await self._workspaces.accounts.note(wish.session, wish.account)
            async with self._shared.shown(wish.session, account, wish.settings.shares) as shown:
                yield shown
        except OSError as error:
            # Of all that is written until an agent runs.
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise disk_failure(error, "") from error

    def check(self, settings: Settings) -> None:
        """Raise Failure EGRESS_NOT_ALLOWED when the operator does not allow what a session asks for."""
        self._maker.egress.check(settings.egress)

    async def release(self, sandbox: Sandbox) -> None:
        """Give a claimed sandbox back; one that is gone is cleared away."""
        sandbox.running_turn = ""
        sandbox.last_used = time.monotonic()
        if sandbox.agent.ended.is_set():
            await self._end(sandbox)
        else:
            sandbox.state = event_pb2.SANDBOX_STATE_IDLE
            self._places.tell()

    def prepare(self, wish: Wish) -> None:
        """Begin to make the session's sandbox, if it has none. Failing is for the turn to notice."""
        task = asyncio.create_task(self._prepare(wish), name=f"prepare {wish.session.session_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _prepare(self, wish: Wish) -> None:
        try:
            async with self._locks.hold(wish.session), self._shown(wish) as shown:
                if wish.session not in self._live:
                    await self._make(wish, shown)
        except Failure as failure:
            _log.warning("prepare_failed", session=wish.session.name, reason=failure.reason_name)

    async def hibernate(self, session: SessionRef) -> None:
        """End the session's process, if it has one, and keep the rest. TURN_RUNNING."""
        async with self.without(session):
            return

    @asynccontextmanager
    async def without(self, session: SessionRef) -> AsyncIterator[None]:
        """Keep the session without a sandbox for a while; one that idles is ended first. TURN_RUNNING."""
        async with self._locks.hold(session):
            sandbox = self._live.get(session)
            if sandbox is not None and not sandbox.idle:
                raise Failure(
                    errors_pb2.ERROR_REASON_TURN_RUNNING,
                    f"{sandbox.running_turn} is running in this session; cancel it or wait for its end.",
                    turn=sandbox.running_turn,
                )
            if sandbox is not None:
                await self._end(sandbox)
            yield

    async def keep_pool(self) -> None:
        """Keep the pool full, for ever."""
        if self._policy.pool_size > 0:
            await self.pool.keep()

    async def learn_default(self, default: Callable[[], Awaitable[Boot]]) -> None:
        """Ask what sessions are booted with by default, until it is known or a session has shown it.

        That whoever knows it is not there yet is the normal case: services start in any order.
        """
        pause = _ASK_SECONDS
        while self._policy.pool_size > 0 and not self.pool.wants:
            try:
                boot = await default()
            except Failure as failure:
                _log.info("pool_waits", reason=failure.reason_name, again_in_seconds=pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _ASK_AT_MOST_SECONDS)
                continue
            if not self.pool.wants:
                self.pool.want("", boot)

    async def tend(self) -> None:
        """Freeze and put to rest what is idle, for ever."""
        while True:
            await asyncio.sleep(_TEND_SECONDS)
            for sandbox in self.sandboxes():
                if sandbox.session is None or not sandbox.idle:
                    continue
                try:
                    await self._tend_one(sandbox, sandbox.session)
                except (Failure, OSError, TimeoutError) as error:
                    # One that cannot be put to rest now is none of the others' business.
                    _log.warning("not_tended", session=sandbox.session.name, fault=str(error))

    async def _tend_one(self, sandbox: Sandbox, session: SessionRef) -> None:
        idle = time.monotonic() - sandbox.last_used
        if sandbox.agent.ended.is_set() or idle > self._policy.sleep_after:
            await self.hibernate(session)
        elif sandbox.idle and await self._overfull(sandbox):
            # What a turn left running goes on writing when no turn watches it. One that is frozen does not,
            # unless something in it has found a way to go on.
            await self.hibernate(session)
        elif idle > self._policy.pause_after and sandbox.state == event_pb2.SANDBOX_STATE_IDLE:
            await self._pause(sandbox, session)

    async def _overfull(self, sandbox: Sandbox) -> bool:
        running = sandbox.state == event_pb2.SANDBOX_STATE_IDLE
        return await sandbox.disk.exceeds(allowed_by(self._maker.limits), running=running)

    async def _pause(self, sandbox: Sandbox, session: SessionRef) -> None:
        async with self._locks.hold(session):
            if sandbox.state == event_pb2.SANDBOX_STATE_IDLE:
                try:
                    await sandbox.pause()
                except OSError as error:
                    _log.warning("not_frozen", session=session.name, fault=str(error))
                    await self._end(sandbox)

    async def close(self) -> None:
        """End all."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        ends = [self._end(sandbox) for sandbox in self._live.values()]
        await asyncio.gather(*ends, self.pool.close(), return_exceptions=True)

    async def _make(self, wish: Wish, shown: Shown) -> tuple[Sandbox, event_pb2.SandboxState.ValueType, bool]:
        """Return a new sandbox, in what state it is, and whether it was booted ahead."""
        transcript = await wish.store.transcript()
        if transcript.lines:
            sandbox = await self._boot(wish, shown, transcript)
            return sandbox, event_pb2.SANDBOX_STATE_RESUMED, False
        # What is mounted at a boot cannot be given to one that has booted.
        sandbox_or_none = None if wish.settings.shares else await self._adopt(wish)
        if not wish.settings.shares:
            template = wish.settings.template
            # Tenants may call theirs the same.
            self.pool.want(f"{wish.session.tenant}/{template}" if template else "", wish.boot)
        if sandbox_or_none is not None:
            return sandbox_or_none, event_pb2.SANDBOX_STATE_READY, True
        return await self._boot(wish, shown, transcript), event_pb2.SANDBOX_STATE_READY, False

    def _is_shown(self, session: SessionRef) -> bool:
        """Return whether another session sees the whole of its workspace, and so would lose sight of it."""
        try:
            status = self._workspaces.path(session).stat()
        except FileNotFoundError:
            return False
        folder = (status.st_dev, status.st_ino)
        shown = {(device, inode) for box in self._live.values() for _, device, inode in box.shared}
        return folder in shown or folder in self._shared.held

    async def _adopt(self, wish: Wish) -> Sandbox | None:
        """Make one of the pool the session's, whose workspace becomes the folder that it was booted on."""
        if self._is_shown(wish.session):
            return None
        sandbox = await self.pool.take(wish.boot)
        if sandbox is None:
            return None
        adopting = asyncio.create_task(self._adopt_one(sandbox, wish), name="adopt")
        try:
            return await asyncio.shield(adopting)
        except asyncio.CancelledError:
            # Half adopted it would be nobody's: it is the session's before the lock is given up.
            await asyncio.wait({adopting})
            raise

    async def _adopt_one(self, sandbox: Sandbox, wish: Wish) -> Sandbox | None:
        try:
            # Last of all the workspace: until then the one in the pool can be thrown away whole.
            await sandbox.transcript.bind(wish.store)
            workspace = await self._workspaces.claim(
                sandbox.workspace, wish.session, unless=lambda: self._is_shown(wish.session)
            )
            sandbox.adopt(wish.session, workspace)
        except (Failure, OSError) as error:
            _log.warning("pooled_not_adopted", session=wish.session.name, error=str(error))
            await self.pool.discard(sandbox)
            return None
        self._live[wish.session] = sandbox
        return sandbox

    async def _boot(self, wish: Wish, shown: Shown, transcript: Transcript) -> Sandbox:
        await self._take_place()
        try:
            workspace = await self._workspaces.ensure(wish.session)
            sandbox = await self._maker.boot(
                session=wish.session,
                workspace=workspace,
                boot=wish.boot,
                mode=wish.mode,
                store=wish.store,
                transcript=transcript,
                shown=shown,
            )
        except BaseException:
            self._places.give()
            raise
        self._live[wish.session] = sandbox
        return sandbox

    async def _end(self, sandbox: Sandbox) -> None:
        if sandbox.session is not None and self._live.get(sandbox.session) is sandbox:
            del self._live[sandbox.session]
            try:
                await sandbox.end()
            finally:
                self._places.give()

    async def _take_place(self) -> None:
        """Wait until there is room for one more: the pool gives way, then who has been idle for longest."""
        try:
            async with asyncio.timeout(self._policy.wait):
                while not self._places.try_take():
                    if not await self.pool.give_up_one() and not await self._evict():
                        await self._places.change()
        except TimeoutError:
            raise Failure(
                errors_pb2.ERROR_REASON_SANDBOXES_BUSY,
                f"All {self._policy.max_instances} sandboxes were busy for {self._policy.wait:g} seconds; "
                "try again later.",
            ) from None

    async def _evict(self) -> bool:
        """Put the longest idle sandbox to rest; return whether there was one."""
        idle = sorted((each for each in self._live.values() if each.idle), key=lambda each: each.last_used)
        for sandbox in idle:
            if sandbox.session is not None and not self._locks.held(sandbox.session):
                await self.hibernate(sandbox.session)
                return True
        return False
