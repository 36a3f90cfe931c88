"""Permission requests: durable, decided once, outliving restarts, denied when nobody decides."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import event_pb2, turn_pb2, turn_service_pb2
from support.session_house import Client, SessionHouse, failure_of, session_house

ALLOW = event_pb2.PERMISSION_DECISION_ALLOW
DENY = event_pb2.PERMISSION_DECISION_DENY
FOR_SESSION = event_pb2.PERMISSION_DECISION_ALLOW_FOR_SESSION


async def asked(client: Client, turn: turn_pb2.Turn) -> event_pb2.PermissionRequested:
    async for event in client.watch(turn.session, turn=turn.name):
        if event.HasField("permission_requested"):
            return event.permission_requested
    raise AssertionError("nothing was asked")


async def decide(
    client: Client, turn: turn_pb2.Turn, permission_id: str, decision: Any, **fields: Any
) -> event_pb2.PermissionDecided:
    request = turn_service_pb2.DecidePermissionRequest(
        turn=turn.name, permission_id=permission_id, decision=decision, **fields
    )
    return (await client.turns.DecidePermission(request, metadata=client.metadata, timeout=60)).decided


@pytest.mark.parametrize("replica", [0, -1])
async def test_a_decision_reaches_the_agent_and_the_log(house: SessionHouse, replica: int) -> None:
    client = house.client(replica=replica)
    turn = await client.enqueue("ask Bash")
    request = await asked(client, turn)
    assert request.expire_time.seconds > 0
    decided = await decide(client, turn, request.permission_id, DENY, message="not today")
    assert decided.principal == "tester"
    assert (await client.finish(turn)).result == "PERMISSION_DECISION_DENY not today"
    logged = [event for event in await client.events(turn.session) if event.HasField("permission_decided")]
    assert [event.permission_decided for event in logged] == [decided]
    delivered = house.runner.turns[turn.name].decisions[request.permission_id]
    assert delivered == decided


async def test_a_changed_input_reaches_the_agent(house: SessionHouse) -> None:
    client = house.client()
    turn = await client.enqueue("ask Bash")
    request = await asked(client, turn)
    changed = turn_service_pb2.DecidePermissionRequest()
    changed.updated_input.update({"command": "ls"})
    await decide(client, turn, request.permission_id, ALLOW, updated_input=changed.updated_input)
    await client.finish(turn)
    assert house.runner.turns[turn.name].decisions[request.permission_id].updated_input["command"] == "ls"


async def test_a_request_is_decided_once(house: SessionHouse) -> None:
    client = house.client()
    turn = await client.enqueue("ask Bash")
    request = await asked(client, turn)
    answers = await asyncio.gather(
        *(decide(client, turn, request.permission_id, ALLOW, message=f"{n}") for n in range(5)),
        return_exceptions=True,
    )
    stands = [answer for answer in answers if isinstance(answer, event_pb2.PermissionDecided)]
    assert len(stands) == 1
    for answer in answers:
        if isinstance(answer, grpc.aio.AioRpcError):
            assert failure_of(answer).reason == errors_pb2.ERROR_REASON_PERMISSION_DECIDED
    # The same decision again is no other decision.
    assert await decide(client, turn, request.permission_id, ALLOW, message=stands[0].message) == stands[0]
    await client.finish(turn)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await decide(client, turn, request.permission_id, DENY)
    assert failure_of(caught.value).reason == errors_pb2.ERROR_REASON_PERMISSION_DECIDED
    assert failure_of(caught.value).metadata["decision"] == "ALLOW"


async def test_foreign_and_unknown_requests_are_not_found(house: SessionHouse) -> None:
    client = house.client()
    turn = await client.enqueue("ask Bash")
    request = await asked(client, turn)
    other = await client.enqueue("say hi", account="other")
    for of_turn, permission_id in ((turn, "p77"), (turn, "nul\0"), (other, request.permission_id)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await decide(client, of_turn, permission_id, ALLOW)
        assert failure_of(caught.value).reason == errors_pb2.ERROR_REASON_PERMISSION_NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await decide(house.client("other"), turn, request.permission_id, ALLOW)
    assert failure_of(caught.value).reason == errors_pb2.ERROR_REASON_SESSION_NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await decide(client, turn, request.permission_id, 0)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_what_is_allowed_for_the_session_is_not_asked_again(house: SessionHouse) -> None:
    client = house.client()
    turn = await client.enqueue("ask Bash")
    await decide(client, turn, (await asked(client, turn)).permission_id, FOR_SESSION)
    await client.finish(turn)
    again = await client.enqueue("ask Bash", turn.session)
    assert (await client.finish(again)).result == "PERMISSION_DECISION_ALLOW"
    # Another tool, and a question, are another matter.
    for tool in ("Write", "AskUserQuestion"):
        other = await client.enqueue(f"ask {tool}", turn.session)
        request = await asked(client, other)
        assert (await client.turn(other.name)).state == turn_pb2.TURN_STATE_RUNNING
        await decide(client, other, request.permission_id, FOR_SESSION)
        await client.finish(other)
    question = await client.enqueue("ask AskUserQuestion", turn.session)
    await asked(client, question)
    assert (await client.turn(question.name)).state == turn_pb2.TURN_STATE_RUNNING
    await client.cancel(question.name)
    await client.finish(question)


async def test_nobody_deciding_in_time_is_a_denial(house: SessionHouse) -> None:
    client = house.client()
    options = turn_pb2.TurnOptions(permission_timeout=Duration(nanos=200_000_000))
    turn = await client.enqueue("ask Bash", options=options)
    assert (await client.finish(turn)).result == "PERMISSION_DECISION_DENY Nobody decided in time."
    (decided,) = [
        e.permission_decided for e in await client.events(turn.session) if e.HasField("permission_decided")
    ]
    assert decided.timed_out
    assert decided.principal == ""


async def test_a_request_outlives_a_restart(tmp_path: Path, database_url: str) -> None:
    async with session_house(tmp_path, database_url) as house:
        turn = await house.client().enqueue("ask Bash")
        request = await asked(house.client(), turn)
        async with house.restarted():
            client = house.client()
            await decide(client, turn, request.permission_id, ALLOW)
            assert (await client.finish(turn)).result == "PERMISSION_DECISION_ALLOW"
        assert [step for _, step, _ in house.runner.journal] == ["start", "end"]


QUESTIONS: Any = [
    {"question": "Which colour?", "header": "Colour", "multiSelect": False},
    {"question": "Which sizes?", "header": "Sizes", "multiSelect": True},
]
ANSWERS: Any = {"Which colour?": "Red", "Which sizes?": ["S", "M"]}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (None, "Which colour?"),
        ({"answers": {}}, "Which colour?"),
        ({"answers": "Red"}, "must be an object"),
        ({"answers": {"Which colour?": "Red"}}, "Which sizes?"),
        ({"answers": {**ANSWERS, "Which colour?": " "}}, "Which colour?"),
        ({"answers": {**ANSWERS, "Which sizes?": []}}, "Which sizes?"),
        ({"answers": {**ANSWERS, "Which sizes?": [1]}}, "Which sizes?"),
        ({"answers": {**ANSWERS, "Colour": "Red"}}, "was not asked"),
        (ANSWERS, "must be an object"),
    ],
)
async def test_an_incomplete_answer_is_refused_and_the_question_stays_open(
    house: SessionHouse, given: Any, problem: str
) -> None:
    client = house.client()
    turn = await client.enqueue(f"ask AskUserQuestion {json.dumps({'questions': QUESTIONS})}")
    request = await asked(client, turn)
    for decision in (ALLOW, FOR_SESSION):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await decide(client, turn, request.permission_id, decision, **input_of(given))
        failure = failure_of(caught.value)
        assert failure.reason == errors_pb2.ERROR_REASON_INVALID_FIELD
        assert failure.message.startswith("updated_input.answers: ")
        assert problem in failure.message
    await decide(client, turn, request.permission_id, ALLOW, **input_of({"answers": ANSWERS}))
    await client.finish(turn)
    delivered: Any = house.runner.turns[turn.name].decisions[request.permission_id].updated_input
    assert delivered["answers"]["Which colour?"] == "Red"
    assert [each["question"] for each in delivered["questions"]] == ["Which colour?", "Which sizes?"]


def input_of(given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    changed = turn_service_pb2.DecidePermissionRequest()
    changed.updated_input.update(given)
    return {"updated_input": changed.updated_input}


async def test_a_question_can_be_denied_without_an_answer(house: SessionHouse) -> None:
    client = house.client()
    turn = await client.enqueue(f"ask AskUserQuestion {json.dumps({'questions': QUESTIONS})}")
    request = await asked(client, turn)
    await decide(client, turn, request.permission_id, DENY, message="Decide yourself.")
    assert (await client.finish(turn)).result.endswith("Decide yourself.")
    told = [event for event in await client.events(turn.session) if event.HasField("permission_decided")]
    assert [event.parent_tool_use_id for event in told] == ["helper"]
