"""An idle sandbox is frozen, whatever runs in it, and goes on with its next turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from pointsman.runner.v1 import runner_service_pb2 as pb
from pointsman.session.v1 import event_pb2, turn_pb2
from servicekit.testing import wait_until
from support.hostile_programs import STAYS_AWAKE
from support.runner_house import RunnerHouse, new_id
from support.runner_orphans import alive_on
from support.scripted_anthropic import Reply

OpenRunner = Callable[..., Any]


def bash(command: str) -> Reply:
    return Reply.tool("Bash", {"command": command, "description": "Do it"})


START = (bash("python3 -I hostile.py"), Reply.text("Left it."))
SIGNS = ("timer", "sibling", "forking")
# Longer than any of the signs of life takes.
WAIT = bash("sleep 2")


async def state_of(house: RunnerHouse, session: str) -> int:
    answer = await house.stub().ListSandboxes(
        pb.ListSandboxesRequest(), metadata=house.metadata(), timeout=60
    )
    states = {sandbox.session: sandbox.state for sandbox in answer.sandboxes}
    return states.get(f"sessions/{session}", event_pb2.SANDBOX_STATE_UNSPECIFIED)


async def paused(house: RunnerHouse, session: str) -> None:
    async def is_paused() -> bool:
        return await state_of(house, session) == event_pb2.SANDBOX_STATE_PAUSED

    await wait_until(is_paused, timeout=60)


async def hostile_session(house: RunnerHouse) -> str:
    """Run a turn that leaves programs behind which try to stay awake; return its session, frozen."""
    session = new_id()
    await house.write(session, "hostile.py", STAYS_AWAKE.encode())
    result = await house.run(session, "Leave something running")
    assert result.finished.result == "Left it.", result.finished
    await paused(house, session)
    return session


async def signs_of_life(house: RunnerHouse, session: str) -> list[bytes]:
    return [await house.read(session, name) for name in SIGNS]


async def test_nothing_in_a_frozen_sandbox_can_wake_it(open_runner: OpenRunner) -> None:
    script = [*START, WAIT, Reply.text("Waited."), bash("cat given"), Reply.text("Again.")]
    async with open_runner(script, pause_after=timedelta(seconds=2)) as house:
        session = await hostile_session(house)
        frozen = await signs_of_life(house, session)
        assert all(frozen)
        # Files of a frozen session are read and written as ever, and another one's turn runs meanwhile.
        await house.write(session, "given", b"given\n")
        result = await house.run(new_id(), "Wait")
        assert result.finished.result == "Waited.", result.finished
        assert await signs_of_life(house, session) == frozen
        assert await state_of(house, session) == event_pb2.SANDBOX_STATE_PAUSED

        result = await house.run(session, "Go on")
        assert result.of("sandbox_changed")[0].state == event_pb2.SANDBOX_STATE_RESUMED
        assert result.of("tool_result")[0].content.strip() == "given"

        async def alive() -> bool:
            return all(a != b for a, b in zip(frozen, await signs_of_life(house, session), strict=True))

        await wait_until(alive, timeout=60)


async def test_a_frozen_sandbox_is_hibernated_with_all_that_is_in_it(
    open_runner: OpenRunner, tmp_path: Path
) -> None:
    script = [*START, Reply.text("Back.")]
    async with open_runner(script, pause_after=timedelta(seconds=2)) as house:
        session = await hostile_session(house)
        request = pb.HibernateSandboxRequest(session=f"sessions/{session}")
        await house.stub().HibernateSandbox(request, metadata=house.metadata(), timeout=60)
        await wait_until(lambda: alive_on(tmp_path / "data") == [], timeout=60)
        assert (await house.run(session, "And now?")).finished.result == "Back."


async def test_a_sandbox_is_frozen_while_a_program_in_it_waits_for_the_relay(open_runner: OpenRunner) -> None:
    # A request that never ends, to the only socket that there is.
    program = (
        "import os,socket\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid(); null = os.open('/dev/null', os.O_RDWR); [os.dup2(null, n) for n in (0, 1, 2)]\n"
        "s = socket.socket(socket.AF_UNIX); s.connect('/run/agent/llm.sock')\n"
        "s.sendall(b'POST /v1/messages HTTP/1.1\\r\\nhost: x\\r\\ncontent-length: 1000\\r\\n\\r\\n{')\n"
        "open('/workspace/connected', 'w').close(); s.recv(1)\n"
    )
    connect = bash("python3 -I open.py; until [ -e connected ]; do sleep 0.05; done")
    script = [connect, Reply.text("Open."), Reply.text("Still here.")]
    async with open_runner(script, pause_after=timedelta(seconds=0)) as house:
        session = new_id()
        await house.write(session, "open.py", program.encode())
        await house.run(session, "Open it")
        await paused(house, session)
        again, other = await asyncio.gather(house.run(session, "Hello"), house.run(new_id(), "Hello"))
        assert again.finished.result == other.finished.result == "Still here."
        assert again.finished.outcome == turn_pb2.TURN_STATE_SUCCEEDED
