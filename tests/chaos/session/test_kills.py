"""Any process may be killed at any moment: nothing acknowledged is lost, nothing runs twice.

Small by default; CHAOS_FULL=1 is the size that the guarantees are stated for.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
import uuid
from collections import defaultdict
from pathlib import Path

import grpc.aio
import pytest
from pointsman.session.v1 import event_pb2, turn_pb2
from servicekit.testing import wait_until
from support.session_checker import faults_of_journal, faults_of_log, faults_of_requests
from support.session_databases import postgres
from support.session_processes import Town, town

FULL = os.environ.get("CHAOS_FULL") == "1"
ACCOUNTS, IN_FLIGHT, SECONDS, KILL_EVERY = (20, 5, 120.0, 2.0) if FULL else (5, 2, 8.0, 2.0)

pytestmark = pytest.mark.heavy


class Callers:
    """Accounts that send turns, follow them to their end, and come back after every error."""

    def __init__(self, place: Town, prompt: str = "steps 3 0.1") -> None:
        self._town = place
        self._prompt = prompt
        self.answers: dict[str, set[str]] = defaultdict(set)
        self.seen: dict[str, list[event_pb2.Event]] = {}
        self.outcomes: dict[str, list[turn_pb2.TurnState.ValueType]] = defaultdict(list)
        self.longest_silence = 0.0
        self.sessions: dict[str, str] = {}
        self.stop = asyncio.Event()

    async def run(self, account: str) -> None:
        """Send turns one after the other until told to stop."""
        await self.turn(account)
        await asyncio.gather(*(self._until_stopped(account) for _ in range(IN_FLIGHT)))

    async def _until_stopped(self, account: str) -> None:
        while not self.stop.is_set():
            await self.turn(account)

    async def turn(self, account: str) -> None:
        """Send a turn and follow it to its end."""
        turn = await self._enqueue(account, str(uuid.uuid4()))
        self.sessions[account] = turn.session
        finished = await self._follow(turn)
        self.outcomes[account].append(finished.outcome)

    async def _enqueue(self, account: str, request_id: str) -> turn_pb2.Turn:
        began = time.monotonic()
        while True:
            client = self._town.client(random.randrange(9))
            try:
                session = self.sessions.get(account, "")
                where = {"session": session} if session else {"account": account}
                turn = await client.enqueue(self._prompt, request_id=request_id, **where)
                # Said again, it is the same turn: an answer that was lost is no turn that was lost.
                self.answers[request_id].add(turn.name)
                return turn
            except grpc.aio.AioRpcError as error:
                self._typed(error, began)
            await asyncio.sleep(0.1)

    async def _follow(self, turn: turn_pb2.Turn) -> turn_pb2.TurnFinished:
        seen = self.seen.setdefault(turn.name, [])
        cursor, heard = turn.first_sequence - 1, time.monotonic()
        while True:
            client = self._town.client(random.randrange(9))
            try:
                async for event in client.watch(turn.session, cursor, turn.name, timeout=120):
                    heard = time.monotonic()
                    if event.sequence:
                        seen.append(event)
                        cursor = event.sequence
                    if event.HasField("turn_finished"):
                        return event.turn_finished
            except grpc.aio.AioRpcError as error:
                self._typed(error, heard)
            await asyncio.sleep(0.1)

    def _typed(self, error: grpc.aio.AioRpcError, since: float) -> None:
        assert error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}, error
        self.longest_silence = max(self.longest_silence, time.monotonic() - since)


async def check(place: Town, callers: Callers) -> None:
    """Fail with everything that does not hold."""
    faults = faults_of_journal(place.journal()) + faults_of_requests(callers.answers)
    for session in set(callers.sessions.values()):
        events = await place.client().events(session)
        faults += faults_of_log(events)
        for name, seen in callers.seen.items():
            if name.startswith(session):
                logged = [event for event in events if event.turn == name]
                if seen != logged:
                    faults.append(f"{name}: what its stream gave is not what is in the log")
    assert faults == []


only_full = pytest.mark.skipif(not FULL, reason="takes minutes: CHAOS_FULL=1")


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=only_full)])
async def test_kills_lose_nothing_and_run_nothing_twice(tmp_path: Path, kind: str) -> None:
    if kind == "sqlite":
        async with town(tmp_path) as place:
            await rampage(place)
        return
    with postgres() as server:
        async with town(tmp_path, server.create_database(), replicas=2) as place:
            await rampage(place)


async def rampage(place: Town) -> None:
    callers = Callers(place)
    accounts = [f"account-{number}" for number in range(ACCOUNTS)]
    running = [asyncio.create_task(callers.run(account)) for account in accounts]
    victims = [*place.replicas, place.peers]
    began, kills = time.monotonic(), 0
    while time.monotonic() - began < SECONDS:
        await asyncio.sleep(KILL_EVERY)
        await victims[kills % len(victims)].restart()
        if not FULL:
            # On a machine that has other things to do, a process may need longer to start than it lives.
            await victims[kills % len(victims)].serves()
        kills += 1
    callers.stop.set()
    # A session whose files were being kept in the moment of a kill waits for that for 35 seconds.
    async with asyncio.timeout(180):
        await asyncio.gather(*running)
    before = {account: len(outcomes) for account, outcomes in callers.outcomes.items()}
    # And then it is quiet.
    for _ in range(3 if FULL else 1):
        await asyncio.gather(*(callers.turn(account) for account in accounts))
    await check(place, callers)
    outcomes = [outcome for of_account in callers.outcomes.values() for outcome in of_account]
    succeeded = outcomes.count(turn_pb2.TURN_STATE_SUCCEEDED)
    assert succeeded >= 0.8 * len(outcomes), f"{succeeded} of {len(outcomes)}"
    for account, of_account in callers.outcomes.items():
        assert set(of_account[before[account] :]) == {turn_pb2.TURN_STATE_SUCCEEDED}
    if FULL:
        assert callers.longest_silence < 10


async def freeze_and_thaw(place: Town) -> Callers:
    """Freeze a replica past its leases, let another finish its turns, and let it go on."""
    callers = Callers(place, "steps 6 0.4")
    names = [f"account-{number}" for number in range(6)]
    turns = [await place.client(n).enqueue("steps 6 0.4", account=name) for n, name in enumerate(names)]
    callers.sessions = {turn.account: turn.session for turn in turns}
    await wait_until(lambda: sum(step == "start" for _, step, _ in place.journal()) == len(turns), 60)
    place.replicas[0].signal(signal.SIGSTOP)
    for turn in turns:
        assert (await place.client(1).finish(turn)).outcome == turn_pb2.TURN_STATE_SUCCEEDED
    place.replicas[0].signal(signal.SIGCONT)
    # It goes on with what it had in hand, and answers again when it is through.
    for turn in turns:
        assert (await place.client(0).turn(turn.name)).state == turn_pb2.TURN_STATE_SUCCEEDED
    after = await place.client(0).enqueue("steps 1 0", account=names[0], session="")
    assert (await place.client(1).finish(after)).outcome == turn_pb2.TURN_STATE_SUCCEEDED
    return callers


async def test_a_frozen_owner_writes_nothing_when_it_goes_on(tmp_path: Path) -> None:
    with postgres() as server:
        url = server.create_database()
        async with town(tmp_path, url, replicas=2, POINTSMAN_LEASE_SECONDS="1") as place:
            callers = await freeze_and_thaw(place)
            await check(place, callers)
            database = url.partition("@/")[2].partition("?")[0]
            epochs = server.sql("SELECT count(*) FROM turns WHERE epoch > 1", database)
            assert int(epochs) > 0, "nothing was taken over"


async def test_the_checker_notices_when_the_fence_is_taken_out(tmp_path: Path) -> None:
    with postgres() as server:
        async with town(
            tmp_path,
            server.create_database(),
            replicas=2,
            module="support.session_unfenced",
            POINTSMAN_LEASE_SECONDS="1",
        ) as place:
            callers = await freeze_and_thaw(place)
            with pytest.raises(AssertionError, match=r"logged twice|turn_finished|ran"):
                await check(place, callers)
