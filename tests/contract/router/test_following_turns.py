"""RunTurn, StartTurn and Query, before a session service that breaks off, refuses and restarts."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import grpc
import grpc.aio
import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.router.v1 import router_service_pb2 as pb
from pointsman.session.v1 import event_pb2, turn_pb2
from router.app import app
from servicekit.errors import Failure
from servicekit.testing import free_port, started, wait_until
from support.router_house import House, configuration
from support.router_peers import ANSWER, Event, SessionPeer, finished, said, session_service, text


async def run(house: Any, **fields: Any) -> list[Event]:
    request = pb.RunTurnRequest(prompt="What is 2+2?", **fields)
    return [
        answer.event async for answer in house.router.RunTurn(request, metadata=house.caller(), timeout=60)
    ]


def kinds(events: Sequence[Event]) -> list[str]:
    return [str(event.WhichOneof("kind")) for event in events]


async def test_a_turn_is_followed_from_its_first_event_to_its_last(open_house):
    async with open_house(SessionPeer(first_sequence=7)) as house:
        events = await run(house)
        assert kinds(events) == ["turn_queued", "turn_started", "assistant_message", "turn_finished"]
        assert [event.sequence for event in events] == [7, 8, 9, 10]
        # In the call that made it.
        assert house.peer.watches == []


async def test_what_the_caller_asks_for_reaches_the_session_service(house):
    request_id = str(uuid.uuid4())
    options = turn_pb2.TurnOptions(max_turns=3)
    await run(house, account="Acme", model="groq/x", request_id=request_id, options=options)
    enqueued = house.peer.enqueued[0]
    assert (enqueued.prompt, enqueued.account, enqueued.model) == ("What is 2+2?", "acme", "groq/x")
    assert enqueued.request_id == request_id
    assert enqueued.options == options
    assert house.peer.request_ids == ["test-request"]
    passport = house.peer.passports[0]
    assert (passport.tenant, passport.principal, passport.scopes) == ("acme", "tester", {"internal"})


async def test_an_option_that_the_caller_leaves_out_is_left_to_the_session_service(house):
    await run(house)
    assert not house.peer.enqueued[0].HasField("options")
    assert house.peer.enqueued[0].account == "default"


async def test_in_a_session_the_account_is_the_sessions_own(house):
    await run(house, session=f"sessions/{uuid.uuid4()}")
    assert house.peer.enqueued[0].account == ""


async def test_a_pinned_credential_cannot_ask_for_another_account(house):
    request = pb.StartTurnRequest(prompt="hi", account="other")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await house.router.StartTurn(request, metadata=house.caller(account="mine"))
    assert Failure.from_rpc_error(refused.value, "router").reason == errors_pb2.ERROR_REASON_ACCOUNT_PINNED
    assert house.peer.enqueued == []


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
async def test_a_stream_that_breaks_is_taken_up_where_it_broke(open_house, cut):
    async with open_house(SessionPeer(cut_after=[cut])) as house:
        events = await run(house)
        assert [event.sequence for event in events] == [1, 2, 3, 4]
        assert [watch.after_sequence for watch in house.peer.watches] == [cut]
        assert house.peer.watches[0].turn == events[0].turn
        assert len(house.peer.enqueued) == 1


async def test_pieces_of_a_block_are_delivered_once_although_a_new_stream_sends_them_again(open_house):
    script = (
        *ANSWER[:2],
        text("Hel"),
        text("lo ", 3),
        text("you", 6),
        said("Hello you"),
        finished("Hello you"),
    )
    async with open_house(SessionPeer(script=script, cut_after=[4, 3])) as house:
        events = await run(house)
        pieces = [event.text_delta for event in events if event.HasField("text_delta")]
        assert "".join(piece.text for piece in pieces) == "Hello you"
        assert [piece.offset for piece in pieces] == [0, 3, 6]
        assert len(house.peer.watches) == 2


async def test_a_turn_outlives_the_restart_of_the_session_service(keys, tmp_path):
    waiting = asyncio.Event()
    peer = SessionPeer(script=ANSWER[:3], on_event=lambda sent: waiting.set() if sent == 3 else None)
    async with AsyncExitStack() as first:
        session = await first.enter_async_context(session_service(peer, keys))
        async with started(app, configuration(keys, tmp_path, session.address)) as router:
            following = asyncio.create_task(run(House(keys, peer, router)))
            await asyncio.wait_for(waiting.wait(), 60)
            await first.aclose()
            peer.script = ANSWER
            async with session_service(peer, keys, address=session.address):
                events = await asyncio.wait_for(following, 60)
    assert [event.sequence for event in events] == [1, 2, 3, 4]
    assert len(peer.enqueued) == 1


async def test_a_turn_is_enqueued_once_although_the_session_service_starts_late(keys, tmp_path):
    peer = SessionPeer()
    address = f"127.0.0.1:{free_port()}"
    async with started(app, configuration(keys, tmp_path, address)) as router:
        following = asyncio.create_task(run(House(keys, peer, router)))
        async with session_service(peer, keys, address=address):
            events = await asyncio.wait_for(following, 60)
    assert kinds(events)[-1] == "turn_finished"
    assert len(peer.turns) == 1


async def test_a_refusal_of_the_session_service_is_the_callers_at_once_and_typed(open_house):
    refusal = Failure(errors_pb2.ERROR_REASON_QUEUE_FULL, "The queue is full.", limit="100")
    async with open_house(SessionPeer(refusal=refusal)) as house:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await run(house)
    failure = Failure.from_rpc_error(refused.value, "router")
    assert failure.reason == errors_pb2.ERROR_REASON_QUEUE_FULL
    assert failure.metadata == {"limit": "100"}
    assert len(house.peer.enqueued) == 1


async def test_a_client_that_goes_away_leaves_no_stream_behind(open_house):
    async with open_house(SessionPeer(script=ANSWER[:2])) as house:
        call = house.router.RunTurn(pb.RunTurnRequest(prompt="hi"), metadata=house.caller())
        await anext(aiter(call))
        call.cancel()
        await wait_until(lambda: house.peer.open_streams == 0)
    assert house.peer.cancelled == []


async def test_a_drain_ends_the_stream_at_once_and_says_so_in_band_and_as_status(open_house):
    async with open_house(SessionPeer(script=ANSWER[:2])) as house:
        call = house.router.RunTurn(pb.RunTurnRequest(prompt="hi"), metadata=house.caller())
        items = aiter(call)
        await anext(items)
        await anext(items)
        house.started.drain.start()
        last = await asyncio.wait_for(anext(items), 60)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await anext(items)
    assert last.error.reason == errors_pb2.ERROR_REASON_SERVICE_DRAINING
    assert Failure.from_rpc_error(ended.value, "router").to_proto() == last.error


async def test_a_query_that_is_nearly_done_is_still_answered_in_a_drain(open_house):
    drained = asyncio.Event()
    async with open_house(SessionPeer(script=ANSWER, hold=(2, drained))) as house:
        request = pb.QueryRequest(query="hi")
        asking = asyncio.ensure_future(house.router.Query(request, metadata=house.caller(), timeout=60))
        await wait_until(lambda: house.peer.open_streams == 1)
        house.started.drain.start()
        drained.set()
        assert (await asking).response == "4"


async def test_start_turn_answers_with_the_turn_and_watches_nothing(house):
    answer = await house.router.StartTurn(
        pb.StartTurnRequest(prompt="hi", busy_policy=turn_pb2.BUSY_POLICY_REJECT), metadata=house.caller()
    )
    assert answer.turn.name == next(iter(house.peer.turns.values())).name
    assert house.peer.enqueued[0].busy_policy == turn_pb2.BUSY_POLICY_REJECT
    assert house.peer.watches == []


async def test_a_query_answers_with_the_result(house):
    answer = await house.router.Query(pb.QueryRequest(query="What is 2+2?"), metadata=house.caller())
    assert (answer.success, answer.response, answer.model) == (True, "4", "demo/offline")
    assert answer.turn.startswith(answer.session + "/turns/")
    assert answer.request_id == "test-request"
    assert answer.usage.output_tokens == 2
    assert house.peer.enqueued[0].options.include_partial_messages is False


@pytest.mark.parametrize(
    ("ending", "reason", "code"),
    [
        (
            finished(
                "",
                outcome=turn_pb2.TURN_STATE_FAILED,
                error=Failure(errors_pb2.ERROR_REASON_BUDGET_EXCEEDED, "Spent.", scope="account").to_proto(),
            ),
            errors_pb2.ERROR_REASON_BUDGET_EXCEEDED,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        ),
        (
            finished("", outcome=turn_pb2.TURN_STATE_CANCELLED),
            errors_pb2.ERROR_REASON_TURN_CANCELLED,
            grpc.StatusCode.CANCELLED,
        ),
        (
            finished("", outcome=turn_pb2.TURN_STATE_INTERRUPTED),
            errors_pb2.ERROR_REASON_TURN_INTERRUPTED,
            grpc.StatusCode.ABORTED,
        ),
    ],
)
async def test_a_query_that_fails_fails_as_its_turn_did(open_house, ending, reason, code):
    async with open_house(SessionPeer(script=(*ANSWER[:2], ending))) as house:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await house.router.Query(pb.QueryRequest(query="hi"), metadata=house.caller())
    failure = Failure.from_rpc_error(failed.value, "router")
    assert (failure.reason, failed.value.code()) == (reason, code)
    assert failure.metadata["turn"] in {turn.name for turn in house.peer.turns.values()}


async def test_cancel_and_decide_are_passed_on(house):
    name = f"sessions/{uuid.uuid4()}/turns/{uuid.uuid4()}"
    cancelled = await house.router.CancelTurn(pb.CancelTurnRequest(name=name), metadata=house.caller())
    assert (cancelled.turn.name, house.peer.cancelled) == (name, [name])
    decision = pb.DecidePermissionRequest(
        turn=name, permission_id="p1", decision=event_pb2.PERMISSION_DECISION_DENY, message="No."
    )
    decided = await house.router.DecidePermission(decision, metadata=house.caller())
    assert decided.decided.permission_id == "p1"
    assert house.peer.decided[0].message == "No."
    assert not house.peer.decided[0].HasField("updated_input")
