"""How turns end: each way with its own reason, and the next turn works."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.runner.v1 import runner_service_pb2 as pb
from pointsman.session.v1 import turn_pb2
from servicekit.errors import Failure
from servicekit.testing import wait_until
from support.runner_house import RunnerHouse, TurnResult, new_id
from support.scripted_anthropic import Reply

OpenRunner = Callable[..., Any]


# Who is behind gets the whole for its pieces.
SPOKEN = {"text_delta", "assistant_message"}


def bash(command: str) -> Reply:
    return Reply.tool("Bash", {"command": command, "description": "Do it"})


async def collected(house: RunnerHouse, request: pb.RunTurnRequest, into: TurnResult) -> TurnResult:
    async for item in house.follow(request):
        into.items.append(item)
    return into


async def cancelled_in(house: RunnerHouse, session: str, until: Callable[[TurnResult], bool]) -> TurnResult:
    result = TurnResult()
    request = house.request(session, "Go on for ever")
    following = asyncio.create_task(collected(house, request, result))
    await wait_until(lambda: until(result), timeout=60)
    cancel = pb.CancelTurnRequest(turn=request.turn, epoch=1)
    answer = await house.stub().CancelTurn(cancel, metadata=house.metadata(), timeout=60)
    assert answer.found
    await following
    return result


async def test_a_turn_cancelled_while_the_model_speaks_breaks_the_call_off(open_runner: OpenRunner) -> None:
    async with open_runner([Reply.text("Well…", stall=True), Reply.text("Fine.")]) as house:
        session = new_id()
        result = await cancelled_in(house, session, lambda so_far: bool(SPOKEN & set(so_far.kinds)))
        assert result.finished.outcome == turn_pb2.TURN_STATE_CANCELLED
        assert result.finished.error.reason == errors_pb2.ERROR_REASON_TURN_CANCELLED
        await wait_until(lambda: house.model.aborted == 1)
        after = await house.run(session, "And now?")
        assert after.finished.result == "Fine."
        assert "sandbox_changed" not in after.kinds


async def test_a_turn_cancelled_while_a_tool_runs_ends_the_tool(open_runner: OpenRunner) -> None:
    async with open_runner([bash("sleep 300; touch late"), Reply.text("Fine.")]) as house:
        session = new_id()
        result = await cancelled_in(house, session, lambda so_far: "tool_use" in so_far.kinds)
        assert result.finished.outcome == turn_pb2.TURN_STATE_CANCELLED
        after = await house.run(session, "And now?")
        assert after.finished.outcome == turn_pb2.TURN_STATE_SUCCEEDED


async def test_an_agent_that_runs_in_circles_meets_max_turns(open_runner: OpenRunner) -> None:
    async with open_runner([bash("true")]) as house:
        result = await house.run(new_id(), "Loop", options=turn_pb2.TurnOptions(max_turns=3))
        assert result.finished.error.reason == errors_pb2.ERROR_REASON_MAX_TURNS_REACHED
        assert len(house.model.prompts) == 3


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (
            Reply.failing(403, "permission_error", x_pointsman_reason="BUDGET_EXCEEDED"),
            errors_pb2.ERROR_REASON_BUDGET_EXCEEDED,
        ),
        (
            Reply.failing(401, "authentication_error", x_pointsman_reason="PROVIDER_CREDENTIAL_REFUSED"),
            errors_pb2.ERROR_REASON_PROVIDER_CREDENTIAL_REFUSED,
        ),
        (
            Reply.failing(
                529, "overloaded_error", x_pointsman_reason="PROVIDER_UNAVAILABLE", x_should_retry="false"
            ),
            errors_pb2.ERROR_REASON_PROVIDER_UNAVAILABLE,
        ),
        (Reply.failing(400, "invalid_request_error"), errors_pb2.ERROR_REASON_PROVIDER_REQUEST_REFUSED),
    ],
)
async def test_what_the_provider_refuses_is_the_turns_reason(
    open_runner: OpenRunner, reply: Reply, reason: int
) -> None:
    async with open_runner([reply]) as house:
        result = await house.run(new_id(), "Hello")
        assert result.finished.outcome == turn_pb2.TURN_STATE_FAILED
        assert result.finished.error.reason == reason, result.finished


LONG = "prompt is too long: 250000 tokens > 200000 maximum"
TOO_LONG = Reply(status=400, error="invalid_request_error", message=LONG)


@pytest.mark.parametrize(
    ("reply", "reason", "result"),
    [
        (Reply.text("Half.", stop="max_tokens"), errors_pb2.ERROR_REASON_OUTPUT_TOKENS_REACHED, "Half." * 4),
        (Reply.text("No.", stop="refusal"), errors_pb2.ERROR_REASON_MODEL_REFUSED, "No." * 2),
        (
            Reply.text("Half.", stop="model_context_window_exceeded"),
            errors_pb2.ERROR_REASON_CONTEXT_TOO_LONG,
            "Half." * 4,
        ),
        (Reply.text("Half.", stop="pause_turn"), errors_pb2.ERROR_REASON_ANSWER_INCOMPLETE, "Half."),
        (
            Reply.tool("Bash", '{"comm', stop="max_tokens"),
            errors_pb2.ERROR_REASON_OUTPUT_TOKENS_REACHED,
            "",
        ),
        (TOO_LONG, errors_pb2.ERROR_REASON_CONTEXT_TOO_LONG, ""),
        (Reply(stop="max_tokens"), errors_pb2.ERROR_REASON_OUTPUT_TOKENS_REACHED, ""),
    ],
)
async def test_an_ending_that_the_agent_makes_up_has_its_own_reason(
    open_runner: OpenRunner, reply: Reply, reason: int, result: str
) -> None:
    def script(body: Mapping[str, Any]) -> Reply:
        prompt = json.dumps(body["messages"])
        return Reply.text("Fine.") if "And now?" in prompt else reply

    async with open_runner(script) as house:
        session = new_id()
        first = await house.run(session, "Hello")
        assert first.finished.outcome == turn_pb2.TURN_STATE_FAILED
        assert first.finished.error.reason == reason, first.finished
        assert first.finished.result == result
        told = [said.text for said in first.of("assistant_message")]
        assert "".join(told) == result
        assert "CLAUDE_CODE" not in first.finished.error.message
        after = await house.run(session, "And now?")
        assert after.finished.result == "Fine.", after.finished


async def test_the_reason_of_an_error_in_mid_stream_is_llm_proxys(open_runner: OpenRunner) -> None:
    note = 'pointsman-error {"reason":"BUDGET_EXCEEDED","status":403,"message":"Spent.","metadata":{}}'
    cut = Reply.text("Half.", notes=(note,), cut=True)
    async with open_runner([cut]) as house:
        result = await house.run(new_id(), "Hello")
        assert result.finished.error.reason == errors_pb2.ERROR_REASON_BUDGET_EXCEEDED, result.finished


async def test_no_token_no_model_and_the_reason_is_llm_proxys(open_runner: OpenRunner) -> None:
    async with open_runner([Reply.text("Never.")]) as house:
        house.tokens.failure = Failure(errors_pb2.ERROR_REASON_BUDGET_EXCEEDED, "Spent.", scope="tenant")
        result = await house.run(new_id(), "Hello")
        assert result.finished.error.reason == errors_pb2.ERROR_REASON_BUDGET_EXCEEDED, result.finished
        assert house.model.prompts == []


async def test_a_turn_longer_than_its_timeout_is_ended(open_runner: OpenRunner) -> None:
    async with open_runner([Reply.text("Hm", stall=True)]) as house:
        options = turn_pb2.TurnOptions()
        options.timeout.FromSeconds(2)
        result = await house.run(new_id(), "Think", options=options)
        assert result.finished.error.reason == errors_pb2.ERROR_REASON_TURN_TIMED_OUT


async def test_an_agent_killed_in_mid_turn_is_a_crash_and_its_files_stay(open_runner: OpenRunner) -> None:
    kill = bash("echo kept > kept.txt; kill -9 $PPID")
    async with open_runner([kill, Reply.text("Back.")]) as house:
        session = new_id()
        result = await house.run(session, "Kill yourself")
        assert result.finished.error.reason == errors_pb2.ERROR_REASON_SANDBOX_CRASHED, result.finished
        assert result.finished.tool_ran is False or result.finished.tool_ran is True
        after = await house.run(session, "And now?")
        assert after.finished.result == "Back."
        assert await house.read(session, "kept.txt") == b"kept\n"


async def test_without_the_cli_the_turn_says_that_the_sandbox_did_not_start(
    open_runner: OpenRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "claude"
    broken.write_text("#!/bin/sh\necho no library >&2\nexit 127\n")
    broken.chmod(0o755)
    monkeypatch.setattr("runner.app.CLI", broken)
    async with open_runner() as house:
        result = await house.run(new_id(), "Hello")
        assert result.finished.error.reason == errors_pb2.ERROR_REASON_SANDBOX_START_FAILED
        assert "no library" in result.finished.error.message


async def test_usage_and_retries_come_from_llm_proxy_and_not_from_the_agent(open_runner: OpenRunner) -> None:
    notes = (
        'pointsman-retry {"attempt":1,"max_attempts":3,"delay_seconds":0.5,"status":529,"message":"busy"}',
        'pointsman-usage {"model":"test/model","input_tokens":7,"output_tokens":3,"cost_usd":0.25}',
    )
    async with open_runner([Reply.text("Hi.", notes=notes)]) as house:
        result = await house.run(new_id(), "Hello")
        (retry,) = result.of("model_retry")
        assert (retry.attempt, retry.max_attempts, retry.status, retry.message) == (1, 3, 529, "busy")
        (usage,) = result.of("usage")
        assert (usage.model, usage.usage.input_tokens, usage.usage.cost_usd) == ("test/model", 7, 0.25)
        assert result.finished.usage == usage.usage
        asked = house.model.requests[-1]
        assert asked.headers["Authorization"] == f"Bearer {house.tokens.tokens[0]}"
        assert asked.headers["x-pointsman-usage"] == "1"
        (issued,) = house.tokens.issued
        assert issued.scope.turn == result.events[0].turn
        await wait_until(lambda: [revoked.turn for revoked in house.tokens.revoked] == [issued.scope.turn])


async def test_an_older_epoch_has_lost_the_turn(open_runner: OpenRunner) -> None:
    async with open_runner([Reply.text("Once.")]) as house:
        session, turn = new_id(), new_id()
        await house.run(session, "Hello", turn=turn, epoch=2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await house.run(session, "Hello", turn=turn, epoch=1)
        failure = Failure.from_rpc_error(caught.value, "runner")
        assert failure.reason == errors_pb2.ERROR_REASON_LEASE_LOST
