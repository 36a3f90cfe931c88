"""Direct turns share queue, log and history with agent turns."""

from __future__ import annotations

import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import turn_pb2
from servicekit.testing import wait_until
from support.session_house import SessionHouse

DIRECT = turn_pb2.TURN_ROUTE_DIRECT


async def test_a_direct_turn_asks_the_model_and_nobody_else(house: SessionHouse) -> None:
    client = house.client()
    options = turn_pb2.TurnOptions(system_prompt="Be brief.", append_system_prompt="Be kind.")
    turn = await client.enqueue("hello?", route=DIRECT, options=options, context="It is Tuesday.")
    seen = [event async for event in client.watch(turn.session, turn=turn.name)]
    kinds = [event.WhichOneof("kind") for event in seen if event.sequence]
    assert kinds == [
        "turn_queued",
        "turn_started",
        "assistant_message",
        "assistant_message",
        "usage",
        "turn_finished",
    ]
    answer = "You said: It is Tuesday.\n\nhello?"
    assert seen[-1].turn_finished.result == answer
    assert [e.assistant_message.block for e in seen if e.HasField("assistant_message")] == [0, 1]
    assert seen[-1].turn_finished.usage.output_tokens == 4
    (request,) = house.models.requests
    assert request.system == "Be brief.\n\nBe kind."
    assert request.scope.turn == turn.name
    assert not request.tools
    assert house.runner.requests == []
    assert house.runner.prepared == []


async def test_the_model_is_told_the_whole_conversation(house: SessionHouse) -> None:
    client = house.client()
    first = await client.enqueue("say agent's words")
    await client.finish(first)
    second = await client.enqueue("and you?", first.session, route=DIRECT)
    await client.finish(second)
    third = await client.enqueue("again?", first.session, route=DIRECT)
    await client.finish(third)
    said = [message.content[0].text for message in house.models.requests[-1].messages]
    assert said == ["say agent's words", "agent's words", "and you?", "You said: and you?", "again?"]


async def test_an_agent_turn_knows_the_direct_turns_since_its_last(house: SessionHouse) -> None:
    client = house.client()
    first = await client.enqueue("say one")
    await client.finish(first)
    for prompt in ("two?", "three?"):
        await client.finish(await client.enqueue(prompt, first.session, route=DIRECT))
    await client.finish(await client.enqueue("say four", first.session))
    await client.finish(await client.enqueue("say five", first.session))
    told = [[turn.prompt for turn in request.direct_turns] for request in house.runner.requests]
    assert told == [[], ["two?", "three?"], []]
    answers = [turn.result.result for turn in house.runner.requests[1].direct_turns]
    assert answers == ["You said: two?", "You said: three?"]


async def test_an_agent_is_told_no_more_than_fits(house: SessionHouse) -> None:
    client = house.client()
    session = ""
    for _ in range(8):
        turn = await client.enqueue("x" * 700_000, session, route=DIRECT)
        session = turn.session
        await client.finish(turn)
    for _ in range(5):
        await client.finish(await client.enqueue("short?", session, route=DIRECT))
    assert (await client.finish(await client.enqueue("say on", session))).result == "on"
    assert [turn.prompt for turn in house.runner.requests[0].direct_turns] == ["short?"] * 5


async def test_a_direct_turn_that_needs_tools_goes_on_as_an_agent(house: SessionHouse) -> None:
    house.runner.scripts["escalate"] = house.runner.scripts["work"]
    client = house.client()
    turn = await client.enqueue("escalate this", route=DIRECT, may_escalate=True)
    assert (await client.finish(turn)).result == "done"
    (decided,) = [e.triage_decided for e in await client.events(turn.session) if e.HasField("triage_decided")]
    assert decided.escalated
    assert decided.reason == "needs files"
    done = await client.turn(turn.name)
    assert done.route == turn_pb2.TURN_ROUTE_AGENT
    assert done.usage.input_tokens == 13


async def test_a_direct_turn_can_be_cancelled(house: SessionHouse) -> None:
    client = house.client()
    turn = await client.enqueue("wait", route=DIRECT)
    await wait_until(lambda: bool(house.models.requests))
    await house.client(replica=-1).cancel(turn.name)
    finished = await client.finish(turn)
    assert finished.outcome == turn_pb2.TURN_STATE_CANCELLED
    assert finished.error.reason == errors_pb2.ERROR_REASON_TURN_CANCELLED


async def test_a_direct_turn_ends_at_its_timeout(house: SessionHouse) -> None:
    options = turn_pb2.TurnOptions()
    options.timeout.FromMilliseconds(200)
    client = house.client()
    turn = await client.enqueue("wait", route=DIRECT, options=options)
    finished = await client.finish(turn)
    assert finished.outcome == turn_pb2.TURN_STATE_FAILED
    assert finished.error.reason == errors_pb2.ERROR_REASON_TURN_TIMED_OUT


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        ("max_tokens", errors_pb2.ERROR_REASON_OUTPUT_TOKENS_REACHED),
        ("model_context_window_exceeded", errors_pb2.ERROR_REASON_CONTEXT_TOO_LONG),
        ("refusal", errors_pb2.ERROR_REASON_MODEL_REFUSED),
        ("pause_turn", errors_pb2.ERROR_REASON_ANSWER_INCOMPLETE),
    ],
)
async def test_an_incomplete_answer_fails_with_what_came_and_the_conversation_goes_on(
    house: SessionHouse, stop: str, reason: int
) -> None:
    client = house.client()
    first = await client.enqueue(f"stop at {stop}", route=DIRECT)
    ended = await client.finish(first)
    assert (ended.outcome, ended.error.reason) == (turn_pb2.TURN_STATE_FAILED, reason)
    assert ended.error.metadata["stop_reason"] == stop
    assert ended.result == f"You said: stop at {stop}"
    assert ended.usage.output_tokens == 4
    second = await client.enqueue("continue", first.session, route=DIRECT)
    assert (await client.finish(second)).outcome == turn_pb2.TURN_STATE_SUCCEEDED
    told = [message.content[0].text for message in house.models.requests[-1].messages]
    # What a model refused, it is not asked for again.
    before = [] if stop == "refusal" else [f"stop at {stop}", f"You said: stop at {stop}"]
    assert told == [*before, "continue"]
    await client.finish(await client.enqueue("say three", first.session))
    prompts = [turn.prompt for turn in house.runner.requests[-1].direct_turns]
    assert prompts == [*before[:1], "continue"]


async def test_an_answer_that_broke_off_is_kept_as_far_as_it_went(house: SessionHouse) -> None:
    client = house.client()
    turn = await client.enqueue("break off", route=DIRECT)
    seen = [event async for event in client.watch(turn.session, turn=turn.name)]
    ended = seen[-1].turn_finished
    assert ended.error.reason == errors_pb2.ERROR_REASON_PROVIDER_RESPONSE_INVALID
    logged = "".join(event.assistant_message.text for event in seen if event.HasField("assistant_message"))
    assert ended.result == logged == "You said: break off"


async def test_a_turn_sets_the_limit_of_its_answer(house: SessionHouse) -> None:
    client = house.client()
    await client.finish(await client.enqueue("hello?", route=DIRECT))
    options = turn_pb2.TurnOptions(max_output_tokens=9000)
    turn = await client.enqueue("stop at max_tokens", route=DIRECT, options=options)
    ended = await client.finish(turn)
    assert [request.max_tokens for request in house.models.requests] == [0, 9000]
    assert "9000" in ended.error.message and "max_output_tokens" in ended.error.message
