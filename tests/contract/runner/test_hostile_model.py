"""A model that asks for far too much, with the real CLI: the turn works, or its end names the limit."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import turn_pb2
from runner.relay.tool_calls import TOOL_CALLS
from support.runner_house import TurnResult, new_id
from support.scripted_anthropic import Reply

OpenRunner = Callable[..., Any]
FULL = os.environ.get("CHAOS_FULL") == "1"
OUTPUT = errors_pb2.ERROR_REASON_OUTPUT_LIMIT

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]


def bash(number: int, **more: Any) -> Mapping[str, Any]:
    tool_input = {"command": f"echo {number} >> said", "description": "Say"}
    return {"type": "tool_use", "id": f"toolu_{number}", "name": "Bash", "input": tool_input, **more}


def read(number: int) -> Mapping[str, Any]:
    """A tool that the CLI runs beside others."""
    return {
        "type": "tool_use",
        "id": f"toolu_{number}",
        "name": "Read",
        "input": {"file_path": f"/none/{number}"},
    }


def task(number: int) -> Mapping[str, Any]:
    given = {"description": "Look", "prompt": "Look at all files.", "subagent_type": "general-purpose"}
    return {"type": "tool_use", "id": f"toolu_task_{number}", "name": "Task", "input": given}


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


async def run(
    open_runner: OpenRunner, *blocks: Mapping[str, Any], **reply: Any
) -> tuple[TurnResult, TurnResult]:
    """Return the turn in which the model says this, and the next turn of the session."""
    script = [Reply(blocks, piece=4096, **reply), Reply.text("Done.")]
    async with open_runner(script) as house:
        session = new_id()
        first = await house.run(session, "Go", timeout=240)
        return first, await house.run(session, "Next", timeout=120)


def goes_on(result: TurnResult) -> None:
    assert result.finished.outcome == turn_pb2.TURN_STATE_SUCCEEDED, result.finished
    assert result.finished.result == "Done."


@pytest.mark.parametrize("count", [65, TOOL_CALLS])
async def test_as_many_tool_calls_as_one_message_may_have_run(open_runner: OpenRunner, count: int) -> None:
    first, after = await run(open_runner, *(read(number) for number in range(count)))
    goes_on(first)
    assert len(first.of("tool_use")) == len(first.of("tool_result")) == count
    goes_on(after)


@pytest.mark.parametrize("count", [TOOL_CALLS + 1, *([10_000] if FULL else [])])
async def test_more_tool_calls_in_one_message_name_the_limit(open_runner: OpenRunner, count: int) -> None:
    first, after = await run(open_runner, *(read(number) for number in range(count)))
    assert first.finished.error.reason == OUTPUT, first.finished
    assert "may have 1,000 tool calls" in first.finished.error.message
    goes_on(after)


@pytest.mark.parametrize(("agents", "count"), [(1, TOOL_CALLS + 1), (5, 400)])
async def test_tool_calls_of_sub_agents_count_together(
    open_runner: OpenRunner, agents: int, count: int
) -> None:
    def script(body: Mapping[str, Any]) -> Reply:
        said = str(body["messages"])
        if "Next" in said or "tool_result" in said:
            return Reply.text("Done.")
        if "Look at all files" in said:
            return Reply(tuple(read(number) for number in range(count)), piece=4096)
        return Reply(tuple(task(number) for number in range(agents)))

    async with open_runner(script) as house:
        session = new_id()
        first = await house.run(session, "Go", timeout=240)
        assert first.finished.error.reason == OUTPUT, first.finished
        assert "1,000 tool calls" in first.finished.error.message
        goes_on(await house.run(session, "Next", timeout=120))


async def test_calls_with_one_id_are_no_fault_of_the_protocol(open_runner: OpenRunner) -> None:
    first, after = await run(open_runner, *(bash(number, id="toolu_same") for number in range(5)))
    assert first.finished.error.reason != errors_pb2.ERROR_REASON_SANDBOX_PROTOCOL, first.finished
    goes_on(after)


@pytest.mark.parametrize(
    "tool_input",
    [
        {"command": "true # " + "x" * 12_000_000},
        {"command": "true", **nested(3000)},
        {"command": ["a"] * 300_000},
    ],
    ids=["12 MB", "3,000 levels", "300,000 values"],
)
async def test_an_input_that_is_too_large_names_the_limit_or_works(
    open_runner: OpenRunner, tool_input: Mapping[str, Any]
) -> None:
    first, after = await run(open_runner, {**bash(1), "input": tool_input})
    if first.finished.outcome != turn_pb2.TURN_STATE_SUCCEEDED:
        assert first.finished.error.reason == OUTPUT, first.finished
        assert "may have" in first.finished.error.message or "may nest" in first.finished.error.message
    goes_on(after)


async def test_any_number_of_blocks_is_text(open_runner: OpenRunner) -> None:
    blocks = [{"type": "text", "text": f"Block {number}. "} for number in range(3000)]
    first, after = await run(open_runner, *blocks)
    assert first.finished.outcome == turn_pb2.TURN_STATE_SUCCEEDED, first.finished
    assert len(first.of("assistant_message")) == 3000
    goes_on(after)


async def test_thinking_without_an_end_names_the_limit(open_runner: OpenRunner) -> None:
    options = turn_pb2.TurnOptions(include_partial_messages=True)
    script = [
        Reply(({"type": "thinking", "thinking": "hm " * 2_500_000},), piece=16_384),
        Reply.text("Done."),
    ]
    async with open_runner(script) as house:
        session = new_id()
        first = await house.run(session, "Go", timeout=240, options=options)
        if first.finished.outcome != turn_pb2.TURN_STATE_SUCCEEDED:
            assert first.finished.error.reason == OUTPUT, first.finished
            assert "4 MiB" in first.finished.error.message
        goes_on(await house.run(session, "Next", timeout=120))
