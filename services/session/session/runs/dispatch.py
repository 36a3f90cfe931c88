"""The dispatcher of one replica: claims turns, runs them, keeps their leases, takes over abandoned ones."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import structlog
from servicekit.errors import Failure

from session.events.bus import Bus, Topic
from session.events.hub import Hub
from session.queue.claim import Claim, Claims
from session.queue.positions import Positions
from session.refusals import LeaseLost
from session.runs.run import Runs

_log = structlog.get_logger("session.dispatch")

# How often to look without being told, in case a message was lost.
_LOOK_SECONDS: Final = 1.0
# How often a stop looks whether agent turns still need us, and how long after the request to stop a runner
# that serves may still be about to hear of its own.
_STOP_LOOK_SECONDS: Final = 0.2
_SKEW_SECONDS: Final = 1.5


@dataclass(eq=False)
class Running:
    """A turn that runs here."""

    claim: Claim
    cancel: asyncio.Event = field(default_factory=asyncio.Event)
    decided: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    over: bool = False
    """Whether its end is in the log, or on its way there: what is left to do is to keep its workspace."""


class Dispatcher:
    """Runs up to `places` turns at once. `alone`: no other replica shares the database."""

    def __init__(
        self,
        claims: Claims,
        runs: Runs,
        positions: Positions,
        hub: Hub,
        bus: Bus,
        *,
        places: int,
        lease: timedelta,
        alone: bool,
    ) -> None:
        self._claims = claims
        self._runs = runs
        self._positions = positions
        self._hub = hub
        self._places = places
        self._renew_seconds = lease.total_seconds() / 3
        self._alone = alone
        self._running: dict[str, Running] = {}
        self._wake = asyncio.Event()
        self._strays: set[tuple[str, int]] = set()
        self._held = 0
        self._unheld = asyncio.Event()
        self._unheld.set()
        self._stopping = False
        # Whether turns may wait for a place. While they do, who is next is for the rotation to say.
        self._crowded = True
        bus.on(Topic.QUEUE, lambda _ids: self._wake.set())
        bus.on(Topic.CANCEL, self._cancel)
        bus.on(Topic.DECIDED, self._decided)
        bus.on_reconnect(self._wake.set)

    def _cancel(self, turn_ids: Sequence[str]) -> None:
        for turn_id in turn_ids:
            if turn_id in self._running:
                self._running[turn_id].cancel.set()

    def _decided(self, turn_ids: Sequence[str]) -> None:
        for turn_id in turn_ids:
            if turn_id in self._running:
                self._running[turn_id].decided.set()

    async def dispatch(self) -> None:
        """Claim turns while there are places, until cancelled."""
        while True:
            self._wake.clear()
            try:
                await self._fill()
            except Failure as failure:
                _log.warning("dispatch_waits", reason=failure.reason_name)
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                continue

    @property
    def _free(self) -> int:
        return self._places - len(self._running) - self._held

    @contextmanager
    def held(self) -> Iterator[Callable[[Claim], None] | None]:
        """Keep a place free while inside, and give what starts a turn in it; None when there is none."""
        if self._free <= 0:
            self._crowded = True
        if self._crowded or self._stopping:
            yield None
            return
        self._held += 1
        self._unheld.clear()
        try:
            yield self._start
        finally:
            self._let_go()

    def _let_go(self) -> None:
        self._held -= 1
        if not self._held:
            self._unheld.set()
        if self._crowded:
            # It may have been the last place.
            self._wake.set()

    async def _fill(self) -> None:
        """Claim until there is no place or no turn left that may run, or the service stops."""
        while not self._stopping and (free := self._free) > 0:
            served = set()
            for tenant, account in await self._claims.chosen(free):
                claim = await self._claims.claim(tenant, account)
                if claim is not None:
                    self._hub.publish(claim.turn.session_id, claim.events)
                    self._start(claim)
                    served.add((tenant, account))
            for tenant, account in served:
                await self._positions.tell(tenant, account)
            if not served:
                self._crowded = False
                return
        self._crowded = True

    async def keep(self) -> None:
        """Renew leases and take over what others left, until cancelled."""
        first = True
        while True:
            try:
                await self._take_over(everything=first and self._alone)
                await self._renew()
                first = False
            except Failure as failure:
                _log.warning("leases_wait", reason=failure.reason_name)
            await asyncio.sleep(self._renew_seconds)

    async def _take_over(self, *, everything: bool) -> None:
        while claims := await self._claims.take_over(everything=everything):
            for claim in claims:
                _log.info("turn_taken_over", turn=claim.turn.name, epoch=claim.turn.epoch)
                self._start(claim)

    async def _renew(self) -> None:
        """Extend the leases, and set right what the database and this replica see differently.

        It may only look so, because a claim or an end is on its way; seen twice in a row, it is so.
        """
        renewed = await self._claims.renew()
        for turn_id, running in self._running.items():
            if renewed.get(turn_id, (0, 0))[1]:
                running.cancel.set()
        here = {(turn_id, running.claim.lease.epoch) for turn_id, running in self._running.items()}
        there = {(turn_id, epoch) for turn_id, (epoch, _) in renewed.items()}
        # The workspace of a turn that is over may take minutes to copy, and its lease is not ours any more.
        over = {
            (turn_id, running.claim.lease.epoch) for turn_id, running in self._running.items() if running.over
        }
        strays = (here ^ there) - over
        for turn_id, epoch in strays & self._strays:
            if (turn_id, epoch) in here:
                self._drop(turn_id)
            else:
                await self._adopt(turn_id)
        self._strays = strays

    def _drop(self, turn_id: str) -> None:
        """Stop a run whose turn is not ours any more."""
        running = self._running.pop(turn_id)
        if running.task is not None:
            running.task.cancel()

    async def _adopt(self, turn_id: str) -> None:
        """Run a turn that is ours and that nobody runs: its claim was committed and its answer lost."""
        claim = await self._claims.adopt(turn_id)
        if claim is not None:
            self._start(claim)

    def _start(self, claim: Claim) -> None:
        before = self._running.pop(claim.turn.id, None)
        if before is not None and before.task is not None:
            before.task.cancel()
        running = Running(claim)
        if claim.turn.cancel_time:
            running.cancel.set()
        self._running[claim.turn.id] = running
        running.task = asyncio.create_task(self._run(running))

    async def _run(self, running: Running) -> None:
        turn = running.claim.turn
        try:
            changed = await self._runs.run(running.claim, running.cancel, running.decided)
            running.over = True
            if changed:
                await self._runs.keep(running.claim)
        except LeaseLost:
            _log.info("lease_lost", turn=turn.name, epoch=turn.epoch)
        finally:
            if self._running.get(turn.id) is running:
                del self._running[turn.id]
            self._hub.drop_blocks(turn.session_id)
            self._wake.set()

    async def settle(self, grace: float, runner_stops: Callable[[], Awaitable[bool]]) -> None:
        """Begin no more turns, and give those that run up to `grace` seconds to end.

        Direct turns are answered by us, so they have all of it. Agent turns go on in their runner without us,
        unless `runner_stops`: a runner that stops needs us, for its agents' transcripts and for how they end.
        """
        self._stopping = True
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._unheld.wait()
                serving = asyncio.create_task(self._until_runner_serves(runner_stops))
                try:
                    await self._until_settled(serving)
                finally:
                    serving.cancel()

    async def _until_settled(self, serving: asyncio.Task[None]) -> None:
        """Wait until no turn runs, or only such as their runner carries on."""
        while self._running:
            waited_for = {
                running.task
                for running in self._running.values()
                if running.task is not None and not (serving.done() and self._may_be_left(running))
            }
            if not waited_for:
                return
            ends = waited_for if serving.done() else {*waited_for, serving}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)

    def _may_be_left(self, running: Running) -> bool:
        """Say whether nothing of a turn is ours to end. One that is over has its workspace copied."""
        return self._runs.can_be_left(running.claim) and not running.over

    async def _until_runner_serves(self, runner_stops: Callable[[], Awaitable[bool]]) -> None:
        """Return once it is sure that the runner does not stop with us; wait while it does."""
        clock = asyncio.get_running_loop().time
        sure = clock() + _SKEW_SECONDS
        while True:
            if not await runner_stops() and clock() >= sure:
                return
            await asyncio.sleep(_STOP_LOOK_SECONDS)

    async def stop(self) -> None:
        """Leave the turns that still run to their runners or their next owner, and give all leases back."""
        # Who holds a place still starts a turn in it.
        self._stopping = True
        tasks = {running.task for running in self._running.values() if running.task is not None}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await self._claims.release()
        except Failure as failure:
            # The leases expire by themselves.
            _log.warning("leases_not_released", reason=failure.reason_name)
