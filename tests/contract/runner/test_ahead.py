"""A model's text goes past the agent: each piece once and in order, and only where the agent tells of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pointsman.session.v1 import event_pb2, turn_pb2
from support.runner_house import MODEL, TurnResult, new_id
from support.scripted_anthropic import Reply

OpenRunner = Callable[..., Any]

WORDS = "The quick brown fox jumps over the lazy dog. " * 4


def blocks_in_order(result: TurnResult) -> list[str]:
    """Return the whole blocks. Each one's pieces, if any came, begin it, in order, and come before."""
    open_blocks: dict[tuple[str, int], str] = {}
    whole: dict[tuple[str, int], str] = {}
    for event in result.events:
        kind = event.WhichOneof("kind")
        if kind in ("text_delta", "thinking_delta"):
            delta = getattr(event, kind)
            key = (delta.message_id, delta.block)
            piece = delta.text if kind == "text_delta" else delta.thinking
            assert key not in whole, "a piece came after its block"
            assert set(open_blocks) <= {key}, "a block began before the one before it was whole"
            assert delta.offset == len(open_blocks.get(key, ""))
            open_blocks[key] = open_blocks.get(key, "") + piece
        elif kind == "assistant_message":
            said = event.assistant_message
            key = (said.message_id, said.block)
            whole[key] = said.text or said.thinking
            # One who is behind gets the block for the rest of its pieces.
            assert whole[key].startswith(open_blocks.pop(key, ""))
    assert open_blocks == {}
    return list(whole.values())


async def test_with_tools_and_thinking_between_each_piece_comes_once(open_runner: OpenRunner) -> None:
    thinking = {"type": "thinking", "thinking": WORDS, "signature": "s"}
    tool = {"type": "tool_use", "name": "Bash", "input": {"command": "true", "description": "Nothing"}}
    said = [{"type": "text", "text": f"{number} {WORDS}"} for number in range(3)]
    script = [
        Reply((thinking, said[0], tool), piece=5, delay=0.001),
        Reply((said[1], {**tool, "input": {"command": "echo", "description": "Less"}}), piece=3, delay=0.001),
        Reply((said[2],), piece=7),
    ]
    async with open_runner(script) as house:
        options = turn_pb2.TurnOptions(permission_mode=turn_pb2.PERMISSION_MODE_BYPASS_PERMISSIONS)
        result = await house.run(new_id(), "Speak", options=options)
        assert result.finished.outcome == turn_pb2.TURN_STATE_SUCCEEDED, result.finished
        texts = blocks_in_order(result)
        assert texts == [WORDS, *(block["text"] for block in said)]
        told = ("assistant_message", "tool_use", "tool_result")
        kinds = [kind for kind in result.kinds if kind in told]
        assert kinds == [told[0], *told * 2, told[0]]


async def test_a_sub_agents_text_is_not_taken_for_the_agents(open_runner: OpenRunner) -> None:
    ask = {"description": "Count", "prompt": "Count the sheep", "subagent_type": "counter"}

    def script(body: Mapping[str, Any]) -> Reply:
        if "You are a counter of sheep." in str(body.get("system")):
            return Reply.text(f"Seven. {WORDS}", delay=0.001)
        if "Seven." in str(body["messages"]):
            return Reply.text(f"Done. {WORDS}", delay=0.001)
        return Reply.tool("Agent", ask, text=f"Let me ask. {WORDS}", delay=0.001)

    options = turn_pb2.TurnOptions()
    options.agents["counter"].description = "Counts."
    options.agents["counter"].prompt = "You are a counter of sheep."
    async with open_runner(script) as house:
        result = await house.run(new_id(), "Count the sheep", options=options)
        assert result.finished.outcome == turn_pb2.TURN_STATE_SUCCEEDED, result.finished
        mine = TurnResult([item for item in result.items if not item.event.parent_tool_use_id])
        assert blocks_in_order(mine) == [f"Let me ask. {WORDS}", f"Done. {WORDS}"]


async def test_without_partial_messages_nothing_goes_ahead(open_runner: OpenRunner) -> None:
    async with open_runner([Reply.text(WORDS, delay=0.001)]) as house:
        options = turn_pb2.TurnOptions(include_partial_messages=False)
        result = await house.run(new_id(), "Speak", options=options)
        assert result.of("assistant_message")[0].text == WORDS
        assert result.of("text_delta") == []


@pytest.fixture
def forging(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Put a program in the CLI's place that calls the model and tells of it what the prompt says."""
    cli = tmp_path / "claude"
    cli.write_text(Path(__file__).with_name("forging_cli.py").read_text())
    cli.chmod(0o755)
    monkeypatch.setattr("runner.app.CLI", cli)


async def told(open_runner: OpenRunner, how: str) -> list[event_pb2.TextDelta]:
    async with open_runner([Reply.text("from the model", piece=4, stall=True)]) as house:
        result = await house.run(new_id(), f"{how} {MODEL}")
        assert result.finished.outcome == turn_pb2.TURN_STATE_SUCCEEDED, result.finished
        assert len(house.model.prompts) == 1
        return list(result.of("text_delta"))


@pytest.mark.usefixtures("forging")
async def test_text_is_told_before_the_agent_tells_it(open_runner: OpenRunner) -> None:
    pieces = await told(open_runner, "begins")
    assert "".join(piece.text for piece in pieces) == "from the model"
    assert [piece.offset for piece in pieces] == [
        sum(len(before.text) for before in pieces[:number]) for number in range(len(pieces))
    ]


@pytest.mark.usefixtures("forging")
@pytest.mark.parametrize("how", ["nothing", "another"])
async def test_text_of_a_call_that_the_agent_does_not_tell_of_is_not_told(
    open_runner: OpenRunner, how: str
) -> None:
    assert await told(open_runner, how) == []
