"""One turn and the next, in a real sandbox."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from pointsman.runner.v1 import runner_service_pb2 as pb
from pointsman.session.v1 import event_pb2, turn_pb2
from servicekit.testing import free_port
from support.runner_house import new_id
from support.scripted_anthropic import Reply, scripted_anthropic

OpenRunner = Callable[..., Any]

WRITE = Reply.tool("Write", {"file_path": "/workspace/hello.py", "content": "print('hello world')\n"})
RUN = Reply.tool("Bash", {"command": "python3 hello.py", "description": "Run it"})


async def test_a_turn_writes_a_file_runs_it_and_tells_it_in_order(open_runner: OpenRunner) -> None:
    async with open_runner([WRITE, RUN, Reply.text("It prints hello world.")]) as house:
        session = new_id()
        result = await house.run(session, "Create hello.py that prints hello world, then run it")
        assert result.finished.outcome == turn_pb2.TURN_STATE_SUCCEEDED, result.finished
        assert result.finished.result == "It prints hello world."
        assert result.finished.tool_ran
        kept = [item for item in result.items if item.index]
        assert [item.index for item in kept] == list(range(1, len(kept) + 1))
        told = [item.event.WhichOneof("kind") for item in kept]
        order = ["tool_use", "file_change", "tool_result", "tool_use", "tool_result", "assistant_message"]
        assert [kind for kind in told if kind in order] == order
        assert told[-1] == "turn_finished"
        (change,) = result.of("file_change")
        assert change.path == "hello.py"
        assert change.type == event_pb2.FILE_CHANGE_TYPE_CREATED
        assert "+print('hello world')" in change.diff
        assert "hello world" in result.of("tool_result")[1].content
        assert await house.read(session, "hello.py") == b"print('hello world')\n"


async def test_text_arrives_in_pieces_that_the_message_begins_with(open_runner: OpenRunner) -> None:
    text = "Four, as ever: 4 ✓."
    async with open_runner([Reply.text(text, piece=3, delay=0.02)]) as house:
        # Who is behind gets the message for the rest of its pieces, in the end for all of them.
        for _ in range(5):
            result = await house.run(new_id(), "What is 2+2?")
            (message,) = result.of("assistant_message")
            assert message.text == text
            deltas = result.of("text_delta")
            assert text.startswith("".join(delta.text for delta in deltas))
            assert [delta.offset for delta in deltas] == [
                sum(len(before.text) for before in deltas[:number]) for number in range(len(deltas))
            ]
            assert {(delta.message_id, delta.block) for delta in deltas} <= {
                (message.message_id, message.block)
            }
            if len(deltas) > 1:
                return
    pytest.fail("no pieces came")


async def test_a_second_turn_is_warm_and_remembers_the_first(open_runner: OpenRunner) -> None:
    async with open_runner([Reply.text("Noted."), Reply.text("42.")]) as house:
        session = new_id()
        first = await house.run(session, "Remember 42.")
        second = await house.run(session, "Which number?")
        assert "sandbox_changed" in first.kinds
        assert "sandbox_changed" not in second.kinds
        asked = str(house.model.prompts[-1]["messages"])
        assert "Remember 42." in asked
        assert "Noted." in asked


async def test_after_hibernation_the_conversation_goes_on(open_runner: OpenRunner) -> None:
    async with open_runner([Reply.text("Noted."), Reply.text("42.")]) as house:
        session = new_id()
        await house.run(session, "Remember 42.")
        asked = pb.HibernateSandboxRequest(session=f"sessions/{session}")
        await house.stub().HibernateSandbox(asked, metadata=house.metadata(), timeout=60)
        second = await house.run(session, "Which number?")
        assert second.finished.outcome == turn_pb2.TURN_STATE_SUCCEEDED, second.finished
        states = [changed.state for changed in second.of("sandbox_changed")]
        assert states == [event_pb2.SANDBOX_STATE_STARTING, event_pb2.SANDBOX_STATE_RESUMED]
        assert "Remember 42." in str(house.model.prompts[-1]["messages"])


async def test_after_hibernation_a_sub_agent_goes_on_where_it_was(open_runner: OpenRunner) -> None:
    count = {"description": "Count", "prompt": "Count the sheep", "subagent_type": "counter"}

    def shepherd(body: Mapping[str, Any]) -> Reply:
        said = str(body["messages"])
        if "You are a counter of sheep." in str(body.get("system")):
            return Reply.text("Seven, as I said." if "Are you sure" in said else "I counted 7 sheep.")
        if (found := re.search(r"agentId: (\w+)", said)) is None:
            return Reply.tool("Agent", count)
        if "Ask again" in said and "Are you sure" not in said:
            ask = {"to": found[1], "summary": "Ask whether it is sure", "message": "Are you sure?"}
            return Reply.tool("SendMessage", ask)
        return Reply.text("Done.")

    options = turn_pb2.TurnOptions()
    options.agents["counter"].description = "Counts."
    options.agents["counter"].prompt = "You are a counter of sheep."
    async with open_runner(shepherd) as house:
        session = new_id()
        await house.run(session, "Count the sheep", options=options)
        asked = pb.HibernateSandboxRequest(session=f"sessions/{session}")
        await house.stub().HibernateSandbox(asked, metadata=house.metadata(), timeout=60)
        result = await house.run(session, "Ask again", options=options)
        assert result.finished.outcome == turn_pb2.TURN_STATE_SUCCEEDED, result.finished
        sub_agent = [
            str(body["messages"]) for body in house.model.prompts if "sheep." in str(body.get("system"))
        ]
        assert any("I counted 7 sheep." in said and "Are you sure?" in said for said in sub_agent), [
            each.content for each in result.of("tool_result")
        ]


async def test_the_same_turn_twice_runs_once(open_runner: OpenRunner) -> None:
    async with open_runner([Reply.text("Once.")]) as house:
        session, turn = new_id(), new_id()
        first = await house.run(session, "Say it", turn=turn)
        again = await house.run(session, "Say it", turn=turn, after_index=1)
        kept = [item for item in first.items if item.index > 1]
        assert again.items == kept
        assert len(house.model.prompts) == 1


async def test_an_llm_proxy_that_starts_again_is_waited_for(open_runner: OpenRunner) -> None:
    port = free_port()
    async with open_runner(llm_proxy_http_address=f"127.0.0.1:{port}") as house:
        stream = house.follow(house.request(new_id(), "Say it"))
        event = (await stream.read()).event
        while event.sandbox_changed.state != event_pb2.SANDBOX_STATE_READY:
            event = (await stream.read()).event
        async with scripted_anthropic([Reply.text("Back again.")], port):
            while not event.HasField("turn_finished"):
                event = (await stream.read()).event
        assert event.turn_finished.result == "Back again.", event
