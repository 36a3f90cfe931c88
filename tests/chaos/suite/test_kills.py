"""Nothing acknowledged is lost and nothing runs twice, while every service is killed over and over.

The whole suite with the demo model. Small by default; `make chaos` runs it at full size.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress

import httpx
import pytest
from pointsman.router.v1 import router_service_pb2
from pointsman.session.v1 import session_service_pb2, turn_pb2
from pointsman_client import AsyncClient, PointsmanError
from servicekit.testing import wait_until
from support.chaos_checker import Asked, Ran, Recorded, report, runs_in, violations
from support.suite import Suite

FULL = os.environ.get("CHAOS_FULL") == "1"
ACCOUNTS = 20 if FULL else 6
# Turns that each account keeps in flight.
IN_FLIGHT = 5 if FULL else 2
KILLING_SECONDS = 120.0 if FULL else 15.0
KILLS = 6
AFTERWARDS = 3
# A few dozen turns, some of which one kill of the runner hits all together, are no statistics.
SUCCEEDING = 0.8 if FULL else 0.7
SUCCEEDED = "TURN_STATE_SUCCEEDED"

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900 if FULL else 600)]


class Load:
    """Clients that ask, turn after turn, and write down what they see."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self.asked: list[Asked] = []
        self._began = time.monotonic()
        self._sessions: defaultdict[str, str] = defaultdict(str)

    async def account(self, account: str, over: asyncio.Event) -> None:
        """Keep turns of one account in flight until it is over, then ask the last ones."""
        numbers = iter(range(1_000_000))

        async def line() -> None:
            while not over.is_set():
                await self.turn(account, next(numbers))

        await self.turn(account, next(numbers))
        await asyncio.gather(*(line() for _ in range(IN_FLIGHT)))
        for _ in range(AFTERWARDS):
            await self.turn(account, next(numbers))

    async def turn(self, account: str, number: int) -> None:
        """Run one turn to its end, or to a typed error."""
        asked = Asked(account, str(uuid.uuid4()), number)
        self.asked.append(asked)
        # One turn in three runs a tool, after which a lost runner means INTERRUPTED; all need an agent.
        command = f"Run `echo {number} >> turns.txt && wc -l turns.txt`"
        request = router_service_pb2.StartTurnRequest(
            prompt=command if number % 3 == 0 else f"What is {number}*17?",
            route=turn_pb2.TURN_ROUTE_AGENT,
            account=account,
            session=self._sessions[account],
            request_id=asked.request_id,
        )
        try:
            turn = await self._client.start_turn(request, patience=60)
            asked.turn = turn.name
            self._sessions[account] = turn.session
            async for event in self._client.follow_turn(turn, patience=60):
                if event.sequence:
                    asked.sequences.append(event.sequence)
                    asked.kinds.append(event.WhichOneof("kind") or "")
                if event.HasField("turn_finished"):
                    asked.outcome = turn_pb2.TurnState.Name(event.turn_finished.outcome)
                    asked.said = event.turn_finished.error.message
        except PointsmanError as error:
            asked.outcome = f"error:{error.reason or error.code.name}"
            asked.said = str(error)
        asked.ended = time.monotonic() - self._began

    async def recorded(self) -> Recorded:
        """What the installation knows of it all."""
        turns: defaultdict[str, list[str]] = defaultdict(list)
        logs: dict[str, list[int]] = {}
        for session in set(self._sessions.values()):
            token = ""
            while True:
                page = await self._client.sessions.ListTurns(
                    session_service_pb2.ListTurnsRequest(session=session, page_size=200, page_token=token),
                    timeout=60,
                )
                for turn in page.turns:
                    turns[turn.request_id].append(turn.name)
                token = page.next_page_token
                if not token:
                    break
            logs[session] = await self._sequences(session)
        return Recorded(dict(turns), logs)

    async def _sequences(self, session: str) -> list[int]:
        after, seen = 0, list[int]()
        while True:
            request = session_service_pb2.ListEventsRequest(
                session=session, after_sequence=after, page_size=1000
            )
            page = await self._client.sessions.ListEvents(request, timeout=60)
            if not page.events:
                return seen
            seen += [event.sequence for event in page.events]
            after = seen[-1]


async def kill_in_turn(suite: Suite, seconds: float) -> int:
    """Kill -9 router, session or runner every 2 seconds, llm-proxy every 15; return how many."""
    victims, killed, began, llm_at = (
        ("router", "session", "runner"),
        0,
        time.monotonic(),
        time.monotonic() + 7,
    )
    while time.monotonic() - began < seconds or (not FULL and killed < KILLS):
        await asyncio.sleep(2)
        victim = victims[killed % 3]
        if time.monotonic() > llm_at:
            victim, llm_at = "llm-proxy", llm_at + 15
        # Between two of its processes there is nobody to kill.
        with suppress(LookupError, ProcessLookupError):
            os.kill(suite.pid(victim), signal.SIGKILL)
        killed += 1
        if not FULL:
            # On a machine that has other things to do, a process may need longer to start than it would live.
            await wait_until(lambda: serves(suite))
    return killed


async def serves(suite: Suite) -> bool:
    """Return whether every service answers. Health is asked once a second: it may tell of one just killed."""
    with suppress(httpx.HTTPError):
        async with httpx.AsyncClient(base_url=suite.url, trust_env=False, timeout=10) as http:
            answer = await http.get("/healthz")
            return answer.status_code == 200 and answer.json()["status"] == "healthy"
    return False


async def test_turns_survive_the_killing_of_every_service(make_suite: Callable[..., Suite]) -> None:
    suite = await asyncio.to_thread(make_suite)
    over = asyncio.Event()
    async with AsyncClient(suite.url, suite.key) as client:
        load = Load(client)
        accounts = [asyncio.create_task(load.account(f"account-{n}", over)) for n in range(ACCOUNTS)]
        killed = await kill_in_turn(suite, KILLING_SECONDS)
        over.set()
        await asyncio.gather(*accounts)
        recorded = await load.recorded()
    ran = runs_in(suite.data_dir / "logs" / "runner.log")
    for line in report(load.asked, ran):
        print(line)

    assert killed >= (KILLING_SECONDS / 2 - 2 if FULL else KILLS)
    assert violations(load.asked, recorded, ran) == []
    outcomes = [turn.outcome for turn in load.asked]
    succeeded = outcomes.count(SUCCEEDED) / len(outcomes)
    print(f"{len(outcomes)} turns, {killed} kills, {succeeded:.0%} succeeded")
    assert succeeded >= SUCCEEDING, outcomes
    for account in {turn.account for turn in load.asked}:
        last = [turn.outcome for turn in load.asked if turn.account == account][-AFTERWARDS:]
        assert last == [SUCCEEDED] * AFTERWARDS, (account, last)


class TestTheChecker:
    """A judge that never finds anything proves nothing."""

    KEPT = Asked("a", "r1", 0, "sessions/s/turns/1", [1, 2, 3], SUCCEEDED)

    def test_is_content_with_a_run_that_kept_its_promises(self) -> None:
        recorded = Recorded({"r1": [self.KEPT.turn]}, {"sessions/s": [1, 2, 3]})
        assert violations([self.KEPT], recorded, [Ran(self.KEPT.turn, 1.0, 2.0)]) == []

    @pytest.mark.parametrize(
        ("recorded", "ran", "word"),
        [
            (Recorded({}, {}), [], "lost"),
            (Recorded({"r1": [KEPT.turn, "sessions/s/turns/2"]}, {}), [], "doubled"),
            (Recorded({"r1": [KEPT.turn]}, {"sessions/s": [1, 3]}), [], "gap"),
            (Recorded({"r1": [KEPT.turn]}, {}), [Ran(KEPT.turn, 1, 2), Ran(KEPT.turn, 3, 4)], "ran twice"),
            (
                Recorded({"r1": [KEPT.turn]}, {}),
                [Ran(KEPT.turn, 1, 3), Ran("sessions/s/turns/2", 2, 4)],
                "overlap",
            ),
        ],
    )
    def test_finds_each_broken_promise(self, recorded: Recorded, ran: list[Ran], word: str) -> None:
        (found,) = violations([self.KEPT], recorded, ran)
        assert word in found

    def test_finds_a_stream_that_fell_silent(self) -> None:
        silent = Asked("a", "r1", 0, "sessions/s/turns/1", [1])
        (found,) = violations([silent], Recorded({"r1": [silent.turn]}, {}), [])
        assert "silent" in found
