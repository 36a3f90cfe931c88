"""What the runner takes from a sandbox's CLI, and what it does with one that does not listen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from claude_agent_sdk import ProcessError
from runner.agent.stdio import ProtocolBroken, SandboxTransport, StreamLimits

ANSWER = {"type": "control_response", "response": {"subtype": "success"}}


class Pipes:
    """A sandbox's process whose output is a script. It reads what it is told only while `reads` is set."""

    def __init__(self, *lines: dict[str, Any]) -> None:
        self.stdout = asyncio.StreamReader()
        for line in lines:
            self.stdout.feed_data(json.dumps(line).encode() + b"\n")
        self.stdin = self
        self.stderr = asyncio.StreamReader()
        self.reads = asyncio.Event()
        self.killed = False
        self.over = asyncio.Event()

    def write(self, data: bytes) -> None:
        pass

    async def drain(self) -> None:
        await self.reads.wait()

    async def kill(self) -> None:
        self.killed = True
        self.stdout.feed_eof()
        self.over.set()

    async def wait(self) -> int:
        await self.over.wait()
        return -9 if self.killed else 0


def hook(name: str) -> dict[str, Any]:
    return {"type": "control_request", "request_id": name, "request": {"subtype": "hook_callback"}}


def answered(name: str) -> str:
    response = {**ANSWER, "response": {"subtype": "success", "request_id": name}}
    return json.dumps(response) + "\n"


def transport(pipes: Any, most: int = 3) -> SandboxTransport:
    return SandboxTransport(pipes, StreamLimits(open_requests=most))


async def taken(messages: AsyncIterator[dict[str, Any]], count: int) -> list[str]:
    return [(await anext(messages))["request_id"] for _ in range(count)]


async def test_a_request_counts_until_its_answer_is_read_and_not_only_given() -> None:
    pipes = Pipes(*(hook(f"r{number}") for number in range(4)))
    talk = transport(pipes)
    messages = talk.read_messages()
    writing = [asyncio.create_task(talk.write(answered(name))) for name in await taken(messages, 3)]
    fourth = asyncio.create_task(taken(messages, 1))
    await asyncio.wait({fourth}, timeout=0.1)
    assert not fourth.done()
    pipes.reads.set()
    await asyncio.gather(*writing)
    assert await fourth == ["r3"]


async def test_a_sandbox_that_ends_while_its_requests_wait_is_seen_to_end() -> None:
    pipes = Pipes(*(hook(f"r{number}") for number in range(4)))
    messages = transport(pipes).read_messages()
    await taken(messages, 3)
    fourth = asyncio.create_task(taken(messages, 1))
    await asyncio.wait({fourth}, timeout=0.1)
    assert not fourth.done()
    await pipes.kill()
    assert await fourth == ["r3"]
    with pytest.raises(ProcessError):
        await anext(messages)


async def test_requests_whose_answers_are_read_may_be_any_number() -> None:
    pipes = Pipes(*(hook(f"r{number}") for number in range(100)))
    pipes.reads.set()
    talk = transport(pipes)
    messages = talk.read_messages()
    for number in range(100):
        assert await taken(messages, 1) == [f"r{number}"]
        await talk.write(answered(f"r{number}"))


async def test_one_id_cannot_stand_for_many_requests() -> None:
    messages = transport(Pipes(hook("r0"), hook("r0"))).read_messages()
    assert await taken(messages, 1) == ["r0"]
    with pytest.raises(ProtocolBroken, match="one id"):
        await anext(messages)


async def test_taking_a_request_back_makes_no_room_once_its_answer_is_under_way() -> None:
    takes_back = [{"type": "control_cancel_request", "request_id": f"r{number}"} for number in range(3)]
    pipes = Pipes(*(hook(f"r{number}") for number in range(3)), *takes_back, hook("r3"))
    talk = transport(pipes)
    messages = talk.read_messages()
    writing = [asyncio.create_task(talk.write(answered(name))) for name in await taken(messages, 3)]
    await asyncio.sleep(0)
    for _ in takes_back:
        await anext(messages)
    fourth = asyncio.create_task(taken(messages, 1))
    await asyncio.wait({fourth}, timeout=0.1)
    assert not fourth.done()
    for task in writing:
        task.cancel()
    await asyncio.gather(*writing, return_exceptions=True)
    await fourth
    # The first one's answer is on its way in any case; the others have not begun.
    assert talk._open_requests == {"r0", "r3"}


async def test_a_request_that_is_taken_back_before_its_answer_makes_room() -> None:
    requests = [hook("r0"), {"type": "control_cancel_request", "request_id": "r0"}] * 10
    messages = transport(Pipes(*requests)).read_messages()
    assert len([await anext(messages) for _ in requests]) == 20


async def test_what_is_taken_back_has_an_id() -> None:
    messages = transport(Pipes({"type": "control_cancel_request", "request_id": 17})).read_messages()
    with pytest.raises(ProtocolBroken, match="no id"):
        await anext(messages)


async def test_one_that_does_not_read_what_it_is_told_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.agent.stdio._WRITE_SECONDS", 0.05)
    pipes = Pipes()
    talk = transport(pipes)
    messages = talk.read_messages()
    with pytest.raises(TimeoutError):
        await talk.write(answered("r0"))
    assert pipes.killed
    with pytest.raises(ProtocolBroken, match="to be read"):
        await anext(messages)
