"""`/claude-code` and `/agent/message`: the shapes that clients of old know."""

from __future__ import annotations

import time
import uuid
from typing import Any

import grpc
import grpc.aio
import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.router.v1 import router_service_pb2 as pb
from pointsman.session.v1 import session_service_pb2, turn_pb2
from servicekit.errors import Failure
from support.router_peers import SessionPeer, finished


async def run(house: Any, **fields: Any) -> list[pb.RunAgentResponse]:
    request = pb.RunAgentRequest(prompt="Create a hello world app", **fields)
    return [item async for item in house.router.RunAgent(request, metadata=house.caller(), timeout=60)]


async def test_a_run_streams_an_item_for_each_event_and_the_result_last(house):
    items = await run(house)
    assert [item.type for item in items] == ["turn_queued", "turn_started", "assistant_message", "result"]
    assert items[-1].result == "4"
    assert items[-1].event.HasField("turn_finished")
    assert {item.request_id for item in items} == {"test-request"}
    assert str(uuid.UUID(items[-1].session_id)) == items[-1].session_id


async def test_a_run_without_stream_is_exactly_one_item(house):
    items = await run(house, stream=False)
    assert [(item.type, item.result, item.HasField("event")) for item in items] == [("result", "4", False)]


async def test_a_run_that_fails_without_stream_is_an_error(open_house):
    error = Failure(errors_pb2.ERROR_REASON_MAX_TURNS_REACHED, "Used all of 10 calls.").to_proto()
    script = (finished("", outcome=turn_pb2.TURN_STATE_FAILED, error=error),)
    async with open_house(SessionPeer(script=script)) as house:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await run(house, stream=False)
        assert failed.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        streamed = await run(house)
    assert (streamed[-1].type, streamed[-1].is_error) == ("result", True)
    assert streamed[-1].result == "Used all of 10 calls."


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("", turn_pb2.PERMISSION_MODE_UNSPECIFIED),
        ("acceptEdits", turn_pb2.PERMISSION_MODE_ACCEPT_EDITS),
        ("plan", turn_pb2.PERMISSION_MODE_PLAN),
        ("bypassPermissions", turn_pb2.PERMISSION_MODE_BYPASS_PERMISSIONS),
    ],
)
async def test_permission_modes_go_by_their_names(house, name, mode):
    await run(house, permission_mode=name)
    assert house.peer.enqueued[0].options.permission_mode == mode


async def test_options_reach_the_turn_and_the_rest_is_left_to_defaults(house):
    await run(house, max_turns=3, allowed_tools=["Read"], append_system_prompt="Be brief.", verbose=True)
    await run(house)
    asked, plain = house.peer.enqueued
    assert (asked.options.max_turns, list(asked.options.allowed_tools)) == (3, ["Read"])
    assert asked.options.append_system_prompt == "Be brief."
    assert asked.options.include_partial_messages is True
    assert not plain.options.HasField("max_turns")
    assert plain.options.include_partial_messages is False
    assert plain.route == turn_pb2.TURN_ROUTE_AGENT


async def test_a_run_is_temporary_unless_it_is_kept_or_goes_to_a_session(house):
    session = str(uuid.uuid4())
    await run(house)
    await run(house, keep=True)
    await run(house, session_id=session)
    await run(house, resume_session_id=f"sessions/{session}")
    assert [turn.temporary for turn in house.peer.enqueued] == [True, False, False, False]
    assert [turn.session for turn in house.peer.enqueued] == [
        "",
        "",
        f"sessions/{session}",
        f"sessions/{session}",
    ]


async def test_a_callers_own_name_for_a_session_means_the_same_session_each_time(house):
    first = await run(house, session_id="session_1234567890")
    again = await run(house, session_id="session_1234567890")
    other = await run(house, session_id="session_1234567890", account_id="other")
    assert first[-1].session_id == again[-1].session_id != other[-1].session_id
    assert not house.peer.enqueued[0].temporary


async def test_a_session_id_that_is_no_name_is_refused(house):
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await run(house, session_id="../../etc")
    failure = Failure.from_rpc_error(refused.value, "router")
    assert failure.reason == errors_pb2.ERROR_REASON_INVALID_FIELD
    assert failure.fields[0][0] == "session_id"


async def test_a_run_can_go_on_with_the_accounts_newest_session(house):
    first = await run(house, continue_session=True)
    second = await run(house, continue_session=True)
    assert first[-1].session_id == second[-1].session_id
    assert not house.peer.enqueued[0].temporary


async def test_a_message_is_processed_in_the_accounts_newest_session(house):
    before = time.time() * 1000
    said = [
        await house.router.SendMessage(pb.SendMessageRequest(message="hi"), metadata=house.caller())
        for _ in range(2)
    ]
    assert {answer.status for answer in said} == {"Message processed"}
    assert said[0].session == said[1].session
    assert said[0].turn != said[1].turn
    assert before - 1 <= said[0].timestamp <= time.time() * 1000


async def test_the_same_message_again_is_said_once(house):
    request = pb.SendMessageRequest(message="hi", request_id=str(uuid.uuid4()))
    first = await house.router.SendMessage(request, metadata=house.caller())
    again = await house.router.SendMessage(request, metadata=house.caller())
    assert first.turn == again.turn
    # What is measured along the way is not what is said.
    for enqueued in house.peer.enqueued:
        del enqueued.preface[:]
    assert house.peer.enqueued[0] == house.peer.enqueued[1]


async def test_a_repeated_message_stays_in_its_session_although_there_is_a_newer_one(house):
    request = pb.SendMessageRequest(message="hi", request_id=str(uuid.uuid4()))
    first = await house.router.SendMessage(request, metadata=house.caller())
    newer = session_service_pb2.CreateSessionRequest(account="default", request_id=str(uuid.uuid4()))
    await house.peer.CreateSession(newer, None)
    again = await house.router.SendMessage(request, metadata=house.caller())
    assert (again.session, again.turn) == (first.session, first.turn)


async def test_a_message_whose_turn_fails_is_an_error(open_house):
    async with open_house(
        SessionPeer(script=(finished("", outcome=turn_pb2.TURN_STATE_CANCELLED),))
    ) as house:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await house.router.SendMessage(pb.SendMessageRequest(message="hi"), metadata=house.caller())
    assert failed.value.code() == grpc.StatusCode.CANCELLED
