"""What the scripted runner's agents do: turns, the events of them, and scripts by the prompt's first word."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pointsman.errors.v1 import errors_pb2
from pointsman.runner.v1 import runner_service_pb2 as runner
from pointsman.session.v1 import event_pb2, turn_pb2
from servicekit.errors import Failure

Event = event_pb2.Event
DELTAS = ("text_delta", "thinking_delta")


@dataclass
class ScriptedTurn:
    """A turn as the scripted runner keeps it: its items so far, and what its script can wait for."""

    name: str
    session: str
    epoch: int
    prompt: str
    request: runner.RunTurnRequest
    items: list[Event] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    decisions: dict[str, event_pb2.PermissionDecided] = field(default_factory=dict)
    live: list[Event] = field(default_factory=list)
    over: bool = False
    notes: Path | None = None
    """The file that the items are written to, a line each."""

    async def more_than(self, live: int, items: int) -> None:
        """Wait for something new, or the end."""
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.live) > live or len(self.items) > items or self.over)

    async def emit(self, event: Event) -> None:
        """Send one item. Deltas are not kept."""
        async with self.changed:
            self.live.append(event)
            if event.WhichOneof("kind") not in DELTAS:
                self.items.append(event)
                if self.notes is not None:
                    with self.notes.open("a") as file:
                        file.write(event.SerializeToString().hex() + "\n")
            self.changed.notify_all()


def finished(
    outcome: turn_pb2.TurnState.ValueType = turn_pb2.TURN_STATE_SUCCEEDED, result: str = "", **more: Any
) -> Event:
    """Return a `turn_finished`."""
    return Event(turn_finished=turn_pb2.TurnFinished(outcome=outcome, result=result, **more))


def text_delta(text: str, offset: int, message_id: str = "m1") -> Event:
    """Return a piece of a block."""
    return Event(text_delta=event_pb2.TextDelta(text=text, message_id=message_id, block=0, offset=offset))


def message(message_id: str, text: str) -> Event:
    """Return a whole block."""
    return Event(assistant_message=event_pb2.AssistantMessage(text=text, message_id=message_id, block=0))


def tool(name: str, tool_id: str, **arguments: str) -> Event:
    """Return a `tool_use`."""
    event = Event(tool_use=event_pb2.ToolUse(id=tool_id, tool=name))
    event.tool_use.input.update(arguments)
    return event


def answered(tool_id: str, content: str = "ok") -> Event:
    """Return a `tool_result`."""
    return Event(tool_result=event_pb2.ToolResult(tool_use_id=tool_id, content=content))


def usage(input_tokens: int = 10, output_tokens: int = 5, cost_usd: float = 0.001) -> Event:
    """Return a `usage`."""
    spent = turn_pb2.Usage(
        input_tokens=input_tokens, output_tokens=output_tokens, cost_usd=cost_usd, model_calls=1
    )
    return Event(usage=event_pb2.UsageReported(model="demo/offline", usage=spent))


Script = Callable[[Any, ScriptedTurn], Any]
"""What an agent does, given the runner and the turn."""


async def say(_runner: Any, turn: ScriptedTurn) -> None:
    """`say …`: answer with the prompt's words, a delta each."""
    words = turn.prompt.removeprefix("say ")
    offset = 0
    for word in words.split(" "):
        piece = word if offset == 0 else " " + word
        delta = event_pb2.TextDelta(text=piece, message_id=turn.name, block=0, offset=offset)
        await turn.emit(Event(text_delta=delta))
        offset += len(piece)
    message = event_pb2.AssistantMessage(text=words, message_id=turn.name, block=0, model="demo/offline")
    await turn.emit(Event(assistant_message=message))
    await turn.emit(usage())
    await turn.emit(finished(result=words))


async def work(_runner: Any, turn: ScriptedTurn) -> None:
    """`work`: write a file and run a command."""
    changed = event_pb2.SandboxChanged(state=event_pb2.SANDBOX_STATE_READY)
    await turn.emit(Event(sandbox_changed=changed))
    await turn.emit(tool("Write", "t1", file_path="/workspace/hello.py"))
    change = event_pb2.FileChange(path="hello.py", type=event_pb2.FILE_CHANGE_TYPE_CREATED, tool_use_id="t1")
    await turn.emit(Event(file_change=change))
    await turn.emit(answered("t1"))
    await turn.emit(tool("Bash", "t2", command="python3 hello.py"))
    await turn.emit(answered("t2", "hello world"))
    await turn.emit(usage())
    await turn.emit(finished(result="done", tool_ran=True))


async def wait(_runner: Any, turn: ScriptedTurn) -> None:
    """`wait`: use a tool, then go on when released or cancelled."""
    await turn.emit(tool("Bash", "t1", command="sleep"))
    released = asyncio.create_task(turn.released.wait())
    cancelled = asyncio.create_task(turn.cancelled.wait())
    await asyncio.wait({released, cancelled}, return_when=asyncio.FIRST_COMPLETED)
    released.cancel(), cancelled.cancel()
    if turn.cancelled.is_set():
        error = Failure(errors_pb2.ERROR_REASON_TURN_CANCELLED, "The turn was cancelled.").to_proto()
        await turn.emit(finished(turn_pb2.TURN_STATE_CANCELLED, error=error, tool_ran=True))
        return
    await turn.emit(answered("t1"))
    await turn.emit(finished(result="waited", tool_ran=True))


async def ask(_runner: Any, turn: ScriptedTurn) -> None:
    """`ask <tool> [<its input>]`: ask for permission as a sub-agent, and answer with the decision."""
    _, tool_name, *given = turn.prompt.split(" ", 2)
    permission_id = f"p{len(turn.items)}"
    asked = event_pb2.PermissionRequested(permission_id=permission_id, tool=tool_name)
    for said in given:
        asked.input.update(json.loads(said))
    await turn.emit(Event(permission_requested=asked, parent_tool_use_id="helper"))
    async with turn.changed:
        await turn.changed.wait_for(lambda: permission_id in turn.decisions or turn.cancelled.is_set())
    if turn.cancelled.is_set():
        await turn.emit(finished(turn_pb2.TURN_STATE_CANCELLED))
        return
    decision = turn.decisions[permission_id]
    name = event_pb2.PermissionDecision.Name(decision.decision)
    await turn.emit(finished(result=f"{name} {decision.message}".strip()))


async def fail(_runner: Any, turn: ScriptedTurn) -> None:
    """`fail`: end with an error."""
    error = Failure(errors_pb2.ERROR_REASON_AGENT_FAILED, "The agent failed.").to_proto()
    await turn.emit(finished(turn_pb2.TURN_STATE_FAILED, error=error))


async def spell(_runner: Any, turn: ScriptedTurn) -> None:
    """`spell <text>`: a letter at a time, waiting for `released` in the middle."""
    text = turn.prompt.removeprefix("spell ")
    for offset, letter in enumerate(text):
        if offset == len(text) // 2:
            await turn.released.wait()
        await turn.emit(text_delta(letter, offset))
    await turn.emit(message("m1", text))
    await turn.emit(finished(result=text))


async def steps(_runner: Any, turn: ScriptedTurn) -> None:
    """`steps <n> <seconds>`: use n tools, each for a while."""
    count, seconds = turn.prompt.split(" ")[1:3]
    for number in range(int(count)):
        await turn.emit(tool("Bash", f"t{number}", command=f"step {number}"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(float(seconds)):
                await turn.cancelled.wait()
                await turn.emit(finished(turn_pb2.TURN_STATE_CANCELLED, tool_ran=True))
                return
        await turn.emit(answered(f"t{number}"))
    await turn.emit(finished(result=f"{count} steps", tool_ran=True))


async def hold(_runner: Any, turn: ScriptedTurn) -> None:
    """`hold`: boot, and do nothing until released."""
    await turn.emit(Event(sandbox_changed=event_pb2.SandboxChanged(state=event_pb2.SANDBOX_STATE_STARTING)))
    await turn.released.wait()
    await turn.emit(message("m1", "held"))
    await turn.emit(finished(result="held"))


async def chatter(_runner: Any, turn: ScriptedTurn) -> None:
    """`chatter <n> <size>`: n blocks of 5 pieces of text of a size."""
    count, size = (int(word) for word in turn.prompt.split(" ")[1:])
    for number in range(count):
        for piece in range(5):
            await turn.emit(text_delta("x" * size, piece * size, f"m{number}"))
            await asyncio.sleep(0)
        await turn.emit(message(f"m{number}", "x" * size * 5))
    await turn.emit(finished(result="done"))


SCRIPTS: dict[str, Script] = {
    "say": say,
    "work": work,
    "wait": wait,
    "ask": ask,
    "fail": fail,
    "spell": spell,
    "chatter": chatter,
    "steps": steps,
    "hold": hold,
}
