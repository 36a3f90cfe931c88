"""Turns: accepted once, run one at a time, followed to their end."""

from __future__ import annotations

import asyncio
import uuid

import grpc.aio
import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import event_pb2, turn_pb2
from servicekit.testing import wait_until
from support.session_house import SessionHouse, failure_of


def kinds(events: list[event_pb2.Event]) -> list[str]:
    return [str(event.WhichOneof("kind")) for event in events if event.sequence]


async def test_a_turn_is_logged_without_gaps_and_ends_with_turn_finished(house: SessionHouse) -> None:
    client = house.client()
    turn = await client.enqueue("work")
    assert turn.state in (turn_pb2.TURN_STATE_QUEUED, turn_pb2.TURN_STATE_RUNNING)
    assert turn.position == (turn.state == turn_pb2.TURN_STATE_QUEUED)
    seen = [event async for event in client.watch(turn.session, turn=turn.name)]
    assert kinds(seen) == [
        "turn_queued",
        "turn_started",
        "sandbox_changed",
        "tool_use",
        "file_change",
        "tool_result",
        "tool_use",
        "tool_result",
        "usage",
        "turn_finished",
    ]
    assert [event.sequence for event in seen if event.sequence] == list(range(1, 11))
    assert {event.turn for event in seen} == {turn.name}
    assert seen[-1].turn_finished.result == "done"
    done = await client.turn(turn.name)
    assert done.state == turn_pb2.TURN_STATE_SUCCEEDED
    assert (done.first_sequence, done.last_sequence) == (1, 10)
    assert done.usage.input_tokens == 10
    assert done.result == seen[-1].turn_finished


async def test_get_session_shows_what_the_agent_did(house: SessionHouse) -> None:
    client = house.client()
    turn = await client.enqueue("work\nand a second line")
    house.runner.scripts["and"] = house.runner.scripts["work"]
    await client.finish(turn)
    session = await client.session(turn.session)
    assert session.title == "work"
    assert session.last_command == "python3 hello.py"
    assert session.session_files == ["hello.py"]
    assert session.active_tools == []
    assert session.workspace_path == "/workspace"
    assert session.last_sequence == 10
    # The runner does not have it any more.
    assert session.sandbox.state == event_pb2.SANDBOX_STATE_HIBERNATED
    assert session.sandbox.last_heartbeat_time.seconds > 0
    assert session.usage.input_tokens == 10
    assert [message.content for message in session.messages] == ["work\nand a second line", "done"]


async def test_a_running_turn_shows_its_tool(house: SessionHouse) -> None:
    client = house.client()
    turn = await client.enqueue("wait")
    async for event in client.watch(turn.session, turn=turn.name):
        if event.HasField("tool_use"):
            break
    session = await client.session(turn.session)
    assert session.running_turn == turn.name
    assert session.active_tools == ["Bash"]
    house.runner.turns[turn.name].released.set()
    assert (await client.finish(turn)).result == "waited"


async def test_the_same_request_fifty_times_at_once_is_one_turn(house: SessionHouse) -> None:
    first, last = house.client(), house.client(replica=-1)
    request_id = str(uuid.uuid4())
    calls = [(first, last)[n % 2].enqueue("say once", request_id=request_id) for n in range(50)]
    turns = await asyncio.gather(*calls)
    assert len({turn.name for turn in turns}) == 1
    assert len({turn.session for turn in turns}) == 1
    await first.finish(turns[0])
    assert [step for _, step, _ in house.runner.journal] == ["start", "end"]


async def test_a_request_id_with_another_body_is_refused(house: SessionHouse) -> None:
    client = house.client()
    request_id = str(uuid.uuid4())
    turn = await client.enqueue("say one", request_id=request_id)
    for fields in ({"prompt": "say two"}, {"prompt": "say one", "session": turn.session}):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.enqueue(request_id=request_id, **fields)
        assert caught.value.code() == grpc.StatusCode.ALREADY_EXISTS
        assert failure_of(caught.value).reason == errors_pb2.ERROR_REASON_REQUEST_ID_REUSED
    # What the router found out may differ from one attempt to the next.
    again = await client.enqueue("say one", request_id=request_id, context="found", route=1)
    assert again.name == turn.name


async def test_a_second_turn_waits_for_the_first_and_is_told_its_position(house: SessionHouse) -> None:
    client = house.client()
    first = await client.enqueue("wait")
    second = await client.enqueue("say second", first.session)
    third = await client.enqueue("say third", first.session)
    # The first may begin to run at any moment.
    assert (second.position, third.position) in {(1, 2), (2, 2), (2, 3)}
    await wait_until(lambda: first.name in house.runner.turns)
    house.runner.turns[first.name].released.set()
    assert (await client.finish(third)).result == "third"
    starts = [name for _, step, name in house.runner.journal if step == "start"]
    assert starts == [first.name, second.name, third.name]
    told = [
        event.turn_queued.position
        for event in await client.events(first.session)
        if event.HasField("turn_queued") and event.turn == third.name
    ]
    assert told == sorted(told, reverse=True)
    assert told[-1] == 1


async def test_turns_of_one_account_run_one_at_a_time_and_accounts_in_parallel(house: SessionHouse) -> None:
    clients = (house.client(), house.client(replica=-1))
    turns: dict[str, list[turn_pb2.Turn]] = {}

    async def account(number: int) -> None:
        name = f"account-{number}"
        turns[name] = [await clients[(number + n) % 2].enqueue(f"say {n}", account=name) for n in range(3)]

    await asyncio.gather(*(account(number) for number in range(20)))
    for mine in turns.values():
        for turn in mine:
            await clients[0].finish(turn)
    journal = house.runner.journal
    for mine in turns.values():
        names = [turn.name for turn in mine]
        steps = [(step, name) for _, step, name in journal if name in names]
        assert steps == [(step, name) for name in names for step in ("start", "end")]


async def test_cancelling_a_queued_turn_ends_it_at_once(house: SessionHouse) -> None:
    client = house.client()
    first = await client.enqueue("wait")
    second = await client.enqueue("say never", first.session)
    cancelled = await house.client(replica=-1).cancel(second.name)
    assert cancelled.state == turn_pb2.TURN_STATE_CANCELLED
    assert cancelled.result.error.reason == errors_pb2.ERROR_REASON_TURN_CANCELLED
    assert (await client.finish(second)).outcome == turn_pb2.TURN_STATE_CANCELLED
    assert (await client.cancel(second.name)).state == turn_pb2.TURN_STATE_CANCELLED
    await client.cancel(first.name)
    assert (await client.finish(first)).outcome == turn_pb2.TURN_STATE_CANCELLED


@pytest.mark.parametrize("replica", [0, -1])
async def test_cancelling_a_running_turn_keeps_the_session_usable(house: SessionHouse, replica: int) -> None:
    client = house.client(replica=replica)
    turn = await client.enqueue("wait")
    async for event in client.watch(turn.session, turn=turn.name):
        if event.HasField("tool_use"):
            await client.cancel(turn.name)
        if event.HasField("turn_finished"):
            assert event.turn_finished.outcome == turn_pb2.TURN_STATE_CANCELLED
    after = await client.enqueue("say still here", turn.session)
    assert (await client.finish(after)).result == "still here"


async def test_a_busy_session_can_refuse_or_be_interrupted(house: SessionHouse) -> None:
    client = house.client()
    first = await client.enqueue("wait")
    waiting = await client.enqueue("say later", first.session)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.enqueue("say no", first.session, busy_policy=turn_pb2.BUSY_POLICY_REJECT)
    assert failure_of(caught.value).reason == errors_pb2.ERROR_REASON_SESSION_BUSY
    async for event in client.watch(first.session, turn=first.name):
        if event.HasField("turn_started"):
            break
    now = await client.enqueue("say now", first.session, busy_policy=turn_pb2.BUSY_POLICY_INTERRUPT)
    assert (await client.finish(first)).outcome == turn_pb2.TURN_STATE_CANCELLED
    await client.finish(waiting)
    starts = [name for _, step, name in house.runner.journal if step == "start"]
    assert starts == [first.name, now.name, waiting.name]


async def test_a_failed_turn_says_why(house: SessionHouse) -> None:
    client = house.client()
    turn = await client.enqueue("fail")
    finished = await client.finish(turn)
    assert finished.outcome == turn_pb2.TURN_STATE_FAILED
    assert finished.error.reason == errors_pb2.ERROR_REASON_AGENT_FAILED
    assert [message.type for message in (await client.session(turn.session)).messages] == ["result", "error"]


async def test_a_sandbox_is_prepared_while_the_turn_is_accepted(house: SessionHouse) -> None:
    client = house.client()
    turn = await client.enqueue("say hello", account="alice")
    await client.finish(turn)
    # Beside everything else, and so perhaps after it.
    await wait_until(lambda: bool(house.runner.prepared))
    (prepared,) = house.runner.prepared
    assert (prepared.session, prepared.account, prepared.model) == (turn.session, "alice", "demo/offline")


async def test_the_preface_is_logged_before_the_turn_starts(house: SessionHouse) -> None:
    client = house.client()
    decided = event_pb2.Event(
        sequence=99,
        turn="sessions/elsewhere",
        triage_decided=event_pb2.TriageDecided(route=turn_pb2.TURN_ROUTE_AGENT, decided_by="rule"),
    )
    turn = await client.enqueue("say hi", preface=[decided, event_pb2.Event()])
    await client.finish(turn)
    events = await client.events(turn.session)
    assert kinds(events)[:3] == ["turn_queued", "triage_decided", "turn_started"]
    assert events[1].turn == turn.name
    assert events[1].triage_decided.decided_by == "rule"


async def test_context_goes_before_the_prompt_and_is_not_shown(house: SessionHouse) -> None:
    client = house.client()
    turn = await client.enqueue("say hi", context="It is Tuesday.")
    await client.finish(turn)
    (request,) = house.runner.requests
    assert request.prompt == "It is Tuesday.\n\nsay hi"
    assert (await client.turn(turn.name)).prompt == "say hi"


async def test_models_are_resolved_when_a_turn_is_accepted(house: SessionHouse) -> None:
    client = house.client()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.enqueue("say hi", model="no/such")
    failure = failure_of(caught.value)
    assert failure.reason == errors_pb2.ERROR_REASON_MODEL_UNKNOWN
    assert "demo/other" in failure.message
    turn = await client.enqueue("say hi", model="demo/other")
    assert turn.model == "demo/other"
    # The model that was asked for last becomes the session's.
    assert (await client.enqueue("say hi", turn.session)).model == "demo/other"


async def test_a_full_queue_refuses_at_once(house: SessionHouse) -> None:
    client = house.client()
    first = await client.enqueue("wait")
    async for event in client.watch(first.session, turn=first.name):
        if event.HasField("turn_started"):
            break
    limit = house.config.max_queued_turns
    for _ in range(limit // 10):
        await asyncio.gather(*(client.enqueue("say x", first.session) for _ in range(10)))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.enqueue("say one too many", first.session)
    failure = failure_of(caught.value)
    assert failure.reason == errors_pb2.ERROR_REASON_QUEUE_FULL
    assert failure.metadata["limit"] == str(limit)
    assert failure.retry_after is not None
    other = await client.enqueue("say fine", account="other")
    assert (await client.finish(other)).result == "fine"
