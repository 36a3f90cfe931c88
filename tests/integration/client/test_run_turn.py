"""The client through a real edge and a real router: once each, whatever breaks in between."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import session_service_pb2, turn_pb2
from pointsman_client import (
    AsyncClient,
    Client,
    InvalidRequest,
    LimitReached,
    NotFound,
    TurnFailed,
    Unauthenticated,
    Unavailable,
)
from servicekit.errors import Failure
from servicekit.testing import wait_until
from support.router_house import API_KEY
from support.router_peers import ANSWER, Event, SessionPeer, finished, said, text

PIECES = (*ANSWER[:2], text("Hel"), text("lo ", 3), text("you", 6), said("Hello you"), finished("Hello you"))


def sequences(events: Sequence[Event]) -> list[int]:
    return [event.sequence for event in events if event.sequence]


async def test_a_turn_is_run_and_its_events_iterated(open_front):
    async with open_front(SessionPeer(first_sequence=5)) as front, AsyncClient(front.url, API_KEY) as client:
        events = [event async for event in client.run_turn("What is 2+2?", account="Acme")]
        assert sequences(events) == [5, 6, 7, 8]
        assert events[-1].turn_finished.result == "4"
        assert front.house.peer.enqueued[0].account == "acme"
        assert await client.ask("What is 2+2?") == "4"


async def test_streams_that_break_are_taken_up_and_nothing_comes_twice(open_front):
    peer = SessionPeer(script=PIECES, cut_after=[4, 3, 0, 5])
    async with open_front(peer) as front, AsyncClient(front.url, API_KEY) as client:
        events = [event async for event in client.run_turn("hi")]
    assert sequences(events) == [1, 2, 3, 4]
    assert "".join(event.text_delta.text for event in events) == "Hello you"


async def test_a_turn_outlives_the_kill_of_the_edge(open_front):
    waiting = asyncio.Event()
    peer = SessionPeer(script=ANSWER[:3], on_event=lambda sent: waiting.set() if sent == 3 else None)
    async with open_front(peer) as front, AsyncClient(front.url, API_KEY) as client:

        async def run() -> list[Event]:
            return [event async for event in client.run_turn("hi")]

        running = asyncio.create_task(run())
        await asyncio.wait_for(waiting.wait(), 60)
        await front.edge.kill()
        peer.script = ANSWER
        await front.edge.start()
        assert sequences(await asyncio.wait_for(running, 60)) == [1, 2, 3, 4]
        assert len(peer.turns) == 1


async def test_a_turn_that_says_nothing_for_long_is_followed_on_when_the_edge_is_killed(
    open_front, monkeypatch
):
    class Later:
        seconds = 0.0

        def monotonic(self) -> float:
            return time.monotonic() + self.seconds

    later = Later()
    monkeypatch.setattr("pointsman_client.patience.time", later)
    monkeypatch.setattr("pointsman_client.client._HEARD_SECONDS", 0.0)
    waiting = asyncio.Event()
    peer = SessionPeer(script=ANSWER[:3], on_event=lambda sent: waiting.set() if sent == 3 else None)
    async with open_front(peer) as front, AsyncClient(front.url, API_KEY) as client:
        asking = asyncio.create_task(client.ask("hi", patience=60))
        await asyncio.wait_for(waiting.wait(), 60)
        later.seconds = 120.0
        await front.edge.kill()
        peer.script = ANSWER
        await front.edge.start()
        assert await asyncio.wait_for(asking, 60) == "4"


async def test_a_turn_is_queued_once_although_the_edge_starts_late(open_front):
    async with open_front() as front, AsyncClient(front.url, API_KEY) as client:
        await front.edge.kill()
        asking = asyncio.create_task(client.ask("hi"))
        await front.edge.start()
        assert await asyncio.wait_for(asking, 60) == "4"
        assert len(front.house.peer.turns) == 1


async def test_a_session_that_an_attempt_still_makes_is_waited_for(open_front, monkeypatch):
    peer = SessionPeer()
    make = peer.CreateSession
    failures = [errors_pb2.ERROR_REASON_SESSION_BUSY, errors_pb2.ERROR_REASON_CALL_TIMED_OUT]

    async def busy_at_first(request: Any, context: Any) -> Any:
        if failures:
            raise Failure(failures.pop(), "Still being made.")
        return await make(request, context)

    monkeypatch.setattr(peer, "CreateSession", busy_at_first)
    async with open_front(peer) as front, AsyncClient(front.url, API_KEY) as client:
        made = await client.create_session("team")
    assert (made.account, len(peer.created)) == ("team", 1)


async def test_an_installation_that_stays_away_is_an_error_in_time():
    async with AsyncClient("http://127.0.0.1:9", API_KEY) as client:
        with pytest.raises(Unavailable):
            await asyncio.wait_for(client.ask("hi", patience=0.5), 60)


async def test_failures_are_exceptions_of_their_kind(open_front):
    gone = Failure(errors_pb2.ERROR_REASON_SESSION_NOT_FOUND, "No such session.")
    async with open_front(SessionPeer(refusal=gone)) as front, AsyncClient(front.url, API_KEY) as client:
        with pytest.raises(NotFound) as missing:
            await client.ask("hi")
        assert (missing.value.reason, missing.value.message) == ("SESSION_NOT_FOUND", "No such session.")
        assert missing.value.request_id
        with pytest.raises(InvalidRequest) as invalid:
            await client.ask("")
        assert invalid.value.fields[0][0] == "prompt"
        front.house.peer.refusal = Failure(errors_pb2.ERROR_REASON_QUEUE_FULL, "Full.", limit="3")
        with pytest.raises(LimitReached) as full:
            await client.ask("hi")
        assert full.value.metadata == {"limit": "3"}
        async with AsyncClient(front.url, "wrong-key") as stranger:
            with pytest.raises(Unauthenticated) as refused:
                await stranger.ask("hi")
        assert refused.value.reason == "CREDENTIAL_INVALID"


async def test_a_turn_that_fails_is_an_event_for_those_who_iterate_and_an_exception_for_those_who_ask(
    open_front,
):
    error = Failure(errors_pb2.ERROR_REASON_MAX_TURNS_REACHED, "Used up.").to_proto()
    peer = SessionPeer(script=(finished("", outcome=turn_pb2.TURN_STATE_FAILED, error=error),))
    async with open_front(peer) as front, AsyncClient(front.url, API_KEY) as client:
        events = [event async for event in client.run_turn("hi")]
        assert events[-1].turn_finished.outcome == turn_pb2.TURN_STATE_FAILED
        with pytest.raises(TurnFailed) as failed:
            await client.ask("hi")
    assert (failed.value.reason, failed.value.message) == ("MAX_TURNS_REACHED", "Used up.")


async def test_leaving_the_loop_leaves_no_stream_behind(open_front):
    peer = SessionPeer(script=ANSWER[:2])
    async with open_front(peer) as front, AsyncClient(front.url, API_KEY) as client:
        events = client.run_turn("hi")
        await anext(events)
        await events.aclose()
        await wait_until(lambda: peer.open_streams == 0)


async def test_the_same_without_async(open_front):
    peer = SessionPeer(script=PIECES, cut_after=[4])

    async def listed(client: AsyncClient) -> session_service_pb2.ListSessionsResponse:
        request = session_service_pb2.ListSessionsRequest(page_size=1)
        return await client.call(client.sessions.ListSessions(request, timeout=60))

    def use(url: str) -> dict[str, Any]:
        with Client(url, API_KEY) as client:
            events = list(client.run_turn("hi"))
            stopped_early = client.run_turn("hi")
            next(stopped_early)
            stopped_early.close()  # type: ignore[attr-defined]
            with pytest.raises(InvalidRequest):
                client.ask("")
            return {
                "events": events,
                "answer": client.ask("hi"),
                "listed": client.run(listed(client.asynchronous)),
            }

    async with open_front(peer) as front:
        before = threading.active_count()
        used = await asyncio.to_thread(use, front.url)
    assert sequences(used["events"]) == [1, 2, 3, 4]
    assert used["answer"] == "Hello you"
    # One more may be that in which this was done.
    await wait_until(lambda: threading.active_count() <= before + 1)


async def test_ctrl_c_before_a_step_is_waited_for_leaves_nothing_running(open_front, monkeypatch):
    """It may land on any line, such as the one after the step has been handed to the other thread."""
    peer = SessionPeer(script=ANSWER[:2])

    def use(url: str) -> str:
        with Client(url, API_KEY) as client:
            events = client.run_turn("hi")
            next(events)
            next(events)
            hand_over = asyncio.run_coroutine_threadsafe

            def interrupted(work: Any, loop: Any) -> Any:
                monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", hand_over)
                hand_over(work, loop)
                raise KeyboardInterrupt

            monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", interrupted)
            with pytest.raises(KeyboardInterrupt):
                next(events)
            peer.script = ANSWER
            return client.ask("hi")

    async with open_front(peer) as front:
        assert await asyncio.to_thread(use, front.url) == "4"
        await wait_until(lambda: peer.open_streams == 0)
