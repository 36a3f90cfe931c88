"""Restarts and losses: what is acknowledged is there, what runs is found again, what is cut off says so."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import grpc.aio
import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import event_pb2, transcript_service_pb2, turn_pb2
from servicekit.testing import wait_until
from session.runs import dispatch
from support.session_house import SessionHouse, failure_of, session_house
from support.session_runner import ScriptedRunner
from support.session_scripts import ScriptedTurn


async def running_turn(house: SessionHouse) -> turn_pb2.Turn:
    client = house.client()
    turn = await client.enqueue("wait")
    async for event in client.watch(turn.session, turn=turn.name):
        if event.HasField("tool_use"):
            break
    return turn


async def test_a_turn_goes_on_through_a_restart_and_is_logged_once(tmp_path: Path, database_url: str) -> None:
    async with session_house(tmp_path, database_url) as house:
        turn = await running_turn(house)
        queued = await house.client().enqueue("say later", turn.session)
        async with house.restarted():
            client = house.client()
            house.runner.turns[turn.name].released.set()
            assert (await client.finish(turn)).result == "waited"
            assert (await client.finish(queued)).result == "later"
            events = await client.events(turn.session)
            assert [event.sequence for event in events] == list(range(1, len(events) + 1))
            kinds = [event.WhichOneof("kind") for event in events if event.turn == turn.name]
            assert kinds == ["turn_queued", "turn_started", "tool_use", "tool_result", "turn_finished"]
        assert [step for _, step, name in house.runner.journal if name == turn.name] == ["start", "end"]
        attached = [request for request in house.runner.requests if request.turn == turn.name][-1]
        assert attached.attach_only
        assert (attached.after_index, attached.epoch) == (1, 2)


async def test_events_of_the_time_between_are_not_lost(tmp_path: Path, database_url: str) -> None:
    async with session_house(tmp_path, database_url) as house:
        turn = await running_turn(house)
        await house.stop()
        house.runner.turns[turn.name].released.set()
        await wait_until(lambda: house.runner.turns[turn.name].over)
        async with house.restarted():
            assert (await house.client().finish(turn)).result == "waited"


async def test_a_turn_whose_runner_is_gone_is_interrupted_and_says_that_a_tool_ran(
    house: SessionHouse,
) -> None:
    turn = await running_turn(house)
    house.runner.forget()
    await house.restart_runner()
    client = house.client()
    finished = await client.finish(turn)
    assert finished.outcome == turn_pb2.TURN_STATE_INTERRUPTED
    assert finished.tool_ran
    assert finished.error.reason == errors_pb2.ERROR_REASON_TURN_INTERRUPTED
    assert finished.error.metadata["tool_ran"] == "true"
    # It is not run again by itself, and the session goes on.
    assert (await client.finish(await client.enqueue("say on", turn.session))).result == "on"
    assert [step for _, step, name in house.runner.journal if name == turn.name] == ["start"]


async def test_a_turn_that_has_done_nothing_is_started_again_when_its_runner_is_gone(
    house: SessionHouse,
) -> None:
    client = house.client()
    turn = await client.enqueue("hold")
    for start in range(1, 4):
        await wait_until(lambda: len(house.runner.journal) == start)  # noqa: B023
        async for event in client.watch(turn.session, turn=turn.name):
            if event.HasField("sandbox_changed"):
                break
        house.runner.forget()
        await house.restart_runner()
    await wait_until(lambda: turn.name in house.runner.turns)
    house.runner.turns[turn.name].released.set()
    assert (await client.finish(turn)).result == "held"
    events = await client.events(turn.session)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    sent = [request.epoch for request in house.runner.requests if not request.attach_only]
    assert sent == [1, 2, 3, 4]


async def test_a_turn_that_has_done_nothing_is_started_again_when_both_are_gone(
    tmp_path: Path, database_url: str
) -> None:
    """The owner that comes after knows it from the runner alone."""
    async with session_house(tmp_path, database_url) as house:
        client = house.client()
        before = await client.enqueue("say so", route=turn_pb2.TURN_ROUTE_DIRECT)
        assert (await client.finish(before)).outcome == turn_pb2.TURN_STATE_SUCCEEDED
        turn = await client.enqueue("hold", before.session)
        await wait_until(lambda: turn.name in house.runner.turns)
        await house.stop()
        house.runner.forget()
        await house.restart_runner()
        async with house.restarted():
            await wait_until(lambda: turn.name in house.runner.turns)
            house.runner.turns[turn.name].released.set()
            assert (await house.client().finish(turn)).result == "held"
            first, again = (request for request in house.runner.requests if not request.attach_only)
            assert (first.prompt, first.direct_turns) == (again.prompt, again.direct_turns)
            assert [told.name for told in again.direct_turns] == [before.name]


@pytest.mark.parametrize("met", ["it acted and nobody heard of it", "its runner remembers nothing"])
async def test_a_turn_is_not_started_again_when_it_may_have_acted(
    tmp_path: Path, database_url: str, met: str
) -> None:
    async with session_house(tmp_path, database_url) as house:
        turn = await house.client().enqueue("hold")
        await wait_until(lambda: turn.name in house.runner.turns)
        await house.stop()
        lost = house.runner.turns[turn.name]
        house.runner.forget()
        if met == "it acted and nobody heard of it":
            lost.items.append(event_pb2.Event(tool_use=event_pb2.ToolUse(id="t", tool="Bash")))
        else:
            house.runner.past.clear()
            house.runner.since = 2**62
        await house.restart_runner()
        async with house.restarted():
            finished = await house.client().finish(turn)
            assert finished.outcome == turn_pb2.TURN_STATE_INTERRUPTED
            assert finished.tool_ran == (met == "it acted and nobody heard of it")
        assert [step for _, step, name in house.runner.journal if name == turn.name] == ["start"]


async def test_a_turn_that_ended_while_its_owner_was_gone_outlives_its_runner(
    tmp_path: Path, database_url: str
) -> None:
    async with session_house(tmp_path, database_url) as house:
        turn = await running_turn(house)
        await house.stop()
        house.runner.turns[turn.name].released.set()
        await wait_until(lambda: house.runner.turns[turn.name].over)
        house.runner.forget()
        await house.restart_runner()
        async with house.restarted():
            assert (await house.client().finish(turn)).result == "waited"


@pytest.mark.parametrize(("states", "times"), [(["STARTING", "READY"], 5), (["STARTING"], 20)])
async def test_a_turn_is_not_started_again_for_ever(
    house: SessionHouse, states: list[str], times: int
) -> None:
    async def die(runner: ScriptedRunner, turn: ScriptedTurn) -> None:
        for state in states:
            value = event_pb2.SandboxState.Value(f"SANDBOX_STATE_{state}")
            await turn.emit(event_pb2.Event(sandbox_changed=event_pb2.SandboxChanged(state=value)))
        runner.past |= runner.turns
        runner.turns.clear()
        await house.restart_runner()

    house.runner.scripts["die"] = die
    client = house.client()
    turn = await client.enqueue("die")
    finished = await client.finish(turn)
    assert finished.outcome == turn_pb2.TURN_STATE_INTERRUPTED
    assert not finished.tool_ran
    assert [request.attach_only for request in house.runner.requests].count(False) == times + 1


async def test_a_turn_outlives_a_broken_connection_to_its_runner(house: SessionHouse) -> None:
    turn = await running_turn(house)
    await house.restart_runner()
    house.runner.turns[turn.name].released.set()
    assert (await house.client().finish(turn)).result == "waited"
    assert [step for _, step, name in house.runner.journal if name == turn.name] == ["start", "end"]


async def test_a_runner_out_of_reach_fails_turns_that_it_never_got(tmp_path: Path, database_url: str) -> None:
    async with session_house(tmp_path, database_url, runner_patience_seconds=0.5) as house:
        await house.stop_runner()
        client = house.client()
        turn = await client.enqueue("say hi")
        finished = await client.finish(turn)
        assert finished.outcome == turn_pb2.TURN_STATE_FAILED
        assert finished.error.reason == errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE
        assert finished.error.metadata["service"] == "runner"


async def test_a_drain_ends_streams_typed_and_fails_no_turn(tmp_path: Path, database_url: str) -> None:
    async with session_house(tmp_path, database_url) as house:
        turn = await running_turn(house)
        streams = [asyncio.create_task(_read_to_end(house, turn.session)) for _ in range(5)]
        await wait_until(lambda: all(not stream.done() for stream in streams))
        direct = await house.client().enqueue("wait", route=turn_pb2.TURN_ROUTE_DIRECT, account="other")
        await wait_until(lambda: bool(house.models.requests))
        stopping = asyncio.create_task(house.stop())
        for stream in streams:
            assert failure_of(await stream).reason == errors_pb2.ERROR_REASON_SERVICE_DRAINING
        house.models.release.set()
        await stopping
        house.runner.turns[turn.name].released.set()
        async with house.restarted():
            client = house.client()
            assert (await client.turn(direct.name)).state == turn_pb2.TURN_STATE_SUCCEEDED
            assert (await client.finish(turn)).outcome == turn_pb2.TURN_STATE_SUCCEEDED


async def test_a_stop_waits_for_the_turns_of_a_runner_that_stops_with_it(
    tmp_path: Path, database_url: str
) -> None:
    """The runner's agents write their transcripts until they end, and calls are taken for that."""
    async with session_house(tmp_path, database_url) as house:
        turn = await running_turn(house)
        client = house.client()
        house.runner_drain.start()
        stopping = asyncio.create_task(house.stop())
        key = transcript_service_pb2.TranscriptKey(session=turn.session, transcript_id="t")
        entry = transcript_service_pb2.TranscriptEntry(uuid="u", json=b"{}")
        request = transcript_service_pb2.AppendEntriesRequest(key=key, entries=[entry])
        # Longer than a session service waits whose runner goes on without it.
        end = time.monotonic() + dispatch._SKEW_SECONDS + 1.0
        while time.monotonic() < end:
            await client.transcripts.AppendEntries(request, metadata=client.metadata, timeout=5)
        later = await client.enqueue("say later", turn.session)
        house.runner.turns[turn.name].released.set()
        async with asyncio.timeout(5):
            await stopping
        async with house.restarted():
            client = house.client()
            ended = await client.turn(turn.name)
            assert (ended.state, ended.result.result) == (turn_pb2.TURN_STATE_SUCCEEDED, "waited")
            assert (await client.finish(later)).result == "later"
        assert [request.turn for request in house.runner.requests].count(turn.name) == 1


async def test_a_stop_leaves_agent_turns_to_a_runner_that_goes_on(tmp_path: Path, database_url: str) -> None:
    async with session_house(tmp_path, database_url) as house:
        turn = await running_turn(house)
        began = time.monotonic()
        await house.stop()
        assert time.monotonic() - began < 5
        async with house.restarted():
            house.runner.turns[turn.name].released.set()
            assert (await house.client().finish(turn)).result == "waited"


async def test_a_turn_that_a_stopping_runner_refuses_runs_in_the_next_one(house: SessionHouse) -> None:
    house.runner.refusing = True
    client = house.client()
    turn = await client.enqueue("say hi")
    await wait_until(lambda: len(house.runner.requests) >= 2)
    await house.restart_runner()
    house.runner.refusing = False
    assert (await client.finish(turn)).result == "hi"
    assert not any(request.attach_only for request in house.runner.requests)


async def test_a_direct_turn_that_is_cut_off_is_asked_again(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("session.app._GRACE_SECONDS", 1.0)
    async with session_house(tmp_path, database_url) as house:
        client = house.client()
        turn = await client.enqueue("wait", route=turn_pb2.TURN_ROUTE_DIRECT)
        await wait_until(lambda: len(house.models.requests) == 1)
        await house.stop()
        house.models.release.set()
        async with house.restarted():
            client = house.client()
            finished = await client.finish(turn)
            assert (finished.outcome, finished.result) == (
                turn_pb2.TURN_STATE_SUCCEEDED,
                "so farYou said: wait",
            )
            kinds = [event.WhichOneof("kind") for event in await client.events(turn.session)]
            assert kinds.count("model_retry") == 1
            assert kinds.count("turn_finished") == 1
        assert len(house.models.requests) == 2


async def test_a_direct_turn_whose_answer_is_partly_logged_is_interrupted(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("session.app._GRACE_SECONDS", 1.0)
    async with session_house(tmp_path, database_url) as house:
        house.models.thinks_first = True
        client = house.client()
        turn = await client.enqueue("wait", route=turn_pb2.TURN_ROUTE_DIRECT)
        async for event in client.watch(turn.session, turn=turn.name):
            if event.HasField("assistant_message"):
                break
        await house.stop()
        async with house.restarted():
            finished = await house.client().finish(turn)
            assert finished.outcome == turn_pb2.TURN_STATE_INTERRUPTED
            assert finished.error.reason == errors_pb2.ERROR_REASON_TURN_INTERRUPTED
            assert "send the prompt again" in finished.error.message
        assert len(house.models.requests) == 1


async def _read_to_end(house: SessionHouse, session: str) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in house.client().watch(session):
            pass
    return caught.value


async def test_a_turn_that_was_given_up_does_not_stand_in_the_way(tmp_path: Path, database_url: str) -> None:
    async with session_house(tmp_path, database_url, runner_patience_seconds=0.5) as house:
        turn = await running_turn(house)
        await house.stop_runner()
        client = house.client()
        assert (await client.finish(turn)).outcome == turn_pb2.TURN_STATE_INTERRUPTED
        await house.start_runner(house.config.runner_address)
        # The runner runs it still; it is stopped before the next one begins.
        following = await client.enqueue("say on", turn.session)
        assert (await client.finish(following)).result == "on"
        steps = [(step, name) for _, step, name in house.runner.journal]
        assert steps.index(("end", turn.name)) < steps.index(("start", following.name))
