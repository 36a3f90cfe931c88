"""Sandboxes come, wait, rest and go: never more than allowed, and nothing of them stays behind."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.runner.v1 import runner_service_pb2 as pb
from pointsman.session.v1 import event_pb2, turn_pb2
from runner.sandboxes.cgroups import Cgroups
from servicekit.errors import Failure
from servicekit.testing import wait_until
from support.files import below
from support.runner_house import MODEL, RunnerHouse, new_id
from support.scripted_anthropic import Reply

OpenRunner = Callable[..., Any]


async def sandboxes(house: RunnerHouse) -> list[pb.Sandbox]:
    answer = await house.stub().ListSandboxes(
        pb.ListSandboxesRequest(), metadata=house.metadata(), timeout=60
    )
    return list(answer.sandboxes)


async def states(house: RunnerHouse) -> dict[str, int]:
    return {sandbox.session: sandbox.state for sandbox in await sandboxes(house)}


def leftovers(data_dir: Path) -> list[str]:
    """Return what of this installation's sandboxes is on the machine: processes, mounts, groups, folders."""
    found = []
    for pid in [entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit()]:
        try:
            if str(data_dir).encode() in Path(f"/proc/{pid}/mountinfo").read_bytes():
                found.append(f"process {pid}")
        except OSError:
            continue
    found += [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(data_dir) in line]
    found += [str(path) for path in (data_dir / "runner" / "sandboxes").glob("*")]
    found += [str(path) for path in (data_dir / "runner" / "workspaces" / "unclaimed").glob("*")]
    return found


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted, not walked


def groups(data_dir: Path) -> list[Path]:
    """Return the control groups of this installation."""
    name = Cgroups.folder_name(data_dir / "runner" / "bubblewrap")
    return list(Path("/sys/fs/cgroup").glob(f"*/{name}")) + list(Path("/sys/fs/cgroup").glob(name))


async def test_fifty_sessions_in_turn_fit_into_four_places_and_leave_nothing(
    open_runner: OpenRunner, tmp_path: Path
) -> None:
    async with open_runner([Reply.text("Hi.")], max_instances=4) as house:
        # Connections to peers and to the engine are made once and kept.
        await asyncio.gather(*(house.run(new_id(), "Hello") for _ in range(5)))
        before = open_files()
        most = 0
        for _ in range(9):
            runs = [house.run(new_id(), "Hello") for _ in range(5)]
            for result in await asyncio.gather(*runs):
                assert result.finished.outcome == turn_pb2.TURN_STATE_SUCCEEDED, result.finished
            most = max(most, len(await sandboxes(house)))
        assert most <= 4
        for sandbox in await sandboxes(house):
            request = pb.HibernateSandboxRequest(session=sandbox.session)
            await house.stub().HibernateSandbox(request, metadata=house.metadata(), timeout=60)
        assert await sandboxes(house) == []
        await wait_until(lambda: leftovers(house.data_dir) == [])
        await wait_until(lambda: open_files() <= before)
    assert groups(tmp_path / "data") == []


SLEEP_AFTER = 4.0


async def test_an_idle_sandbox_is_frozen_then_put_to_rest_and_comes_back(open_runner: OpenRunner) -> None:
    async with open_runner(
        [Reply.text("Noted.")],
        pause_after=timedelta(seconds=0),
        sleep_after=timedelta(seconds=SLEEP_AFTER),
    ) as house:
        session = new_id()
        name = f"sessions/{session}"

        async def paused() -> bool:
            return (await states(house)).get(name) == event_pb2.SANDBOX_STATE_PAUSED

        async def gone() -> bool:
            return name not in await states(house)

        # On a machine that stands still for seconds, it has been put to rest before anybody could wake it.
        for _ in range(5):
            await house.run(session, "Remember 42.")
            last = time.monotonic()
            with suppress(TimeoutError):
                await wait_until(paused, timeout=SLEEP_AFTER)
            found = await sandboxes(house)
            woken = await house.run(session, "Which number?")
            if time.monotonic() - last < SLEEP_AFTER:
                break
        (sandbox,) = found
        assert sandbox.state == event_pb2.SANDBOX_STATE_PAUSED
        assert sandbox.memory_bytes > 10_000_000
        assert [changed.state for changed in woken.of("sandbox_changed")] == [event_pb2.SANDBOX_STATE_RESUMED]

        await wait_until(gone, timeout=60)
        again = await house.run(session, "Which number?")
        assert again.finished.outcome == turn_pb2.TURN_STATE_SUCCEEDED
        assert "Remember 42." in str(house.model.prompts[-1]["messages"])


async def test_when_all_are_busy_a_turn_waits_and_then_runs(open_runner: OpenRunner) -> None:
    slow = Reply.tool("Bash", {"command": "sleep 1", "description": "Wait"})
    async with open_runner([slow, Reply.text("Done.")], max_instances=1) as house:
        results = await asyncio.gather(*(house.run(new_id(), "Go") for _ in range(2)))
        assert all(result.finished.outcome == turn_pb2.TURN_STATE_SUCCEEDED for result in results)


async def test_when_all_stay_busy_the_wait_has_an_end(open_runner: OpenRunner) -> None:
    async with open_runner(
        [Reply.text("Hm", stall=True)], max_instances=1, sandbox_wait=timedelta(seconds=1)
    ) as house:
        request = house.request(new_id(), "Stay")
        busy = house.follow(request)
        async for item in busy:
            if item.event.WhichOneof("kind") in ("text_delta", "assistant_message"):
                break
        result = await house.run(new_id(), "Me too")
        assert result.finished.error.reason == errors_pb2.ERROR_REASON_SANDBOXES_BUSY
        await house.stub().CancelTurn(
            pb.CancelTurnRequest(turn=request.turn, epoch=1), metadata=house.metadata(), timeout=60
        )


async def test_a_new_session_takes_an_agent_from_the_pool_with_the_files_it_has(
    open_runner: OpenRunner,
) -> None:
    look = Reply.tool(
        "Bash", {"command": "cat given; touch made; id -u; stat -c %u given", "description": "Look"}
    )
    async with open_runner([look, Reply.text("Fine."), Reply.text("Again.")], pool_size=1) as house:

        async def pooled() -> bool:
            return (await states(house)).get("") == event_pb2.SANDBOX_STATE_PAUSED

        await wait_until(pooled, timeout=60)
        session = new_id()
        await house.write(session, "given", b"given text\n")
        result = await house.run(session, "Look")
        (changed,) = [
            each for each in result.of("sandbox_changed") if each.state == event_pb2.SANDBOX_STATE_READY
        ]
        assert changed.pooled
        given, text, uid, owner = result.of("tool_result")[0].content.split()
        assert (given, text, uid) == ("given", "text", owner)
        assert {info.path for info in await house.list(session)} == {"given", "made"}
        # The agent was booted under another id; its conversation is the session's all the same.
        assert {key[1:3] for key in house.transcripts.entries} == {(f"sessions/{session}", session)}
        request = pb.HibernateSandboxRequest(session=f"sessions/{session}")
        await house.stub().HibernateSandbox(request, metadata=house.metadata(), timeout=60)
        after = await house.run(session, "What did you do?")
        assert after.finished.result == "Again.", after.finished
        assert "given text" in str(house.model.prompts[-1]["messages"])
        await wait_until(pooled, timeout=60)


async def test_the_pool_gives_way_to_a_session_that_needs_the_place(open_runner: OpenRunner) -> None:
    async with open_runner([Reply.text("Hi.")], pool_size=1, max_instances=1) as house:

        async def pooled() -> bool:
            return "" in await states(house)

        await wait_until(pooled, timeout=60)
        options = turn_pb2.TurnOptions(system_prompt="You are another one.")
        result = await house.run(new_id(), "Hello", options=options)
        assert result.finished.outcome == turn_pb2.TURN_STATE_SUCCEEDED
        assert not result.of("sandbox_changed")[-1].pooled


async def test_a_session_that_is_opened_finds_its_sandbox_ready(open_runner: OpenRunner) -> None:
    async with open_runner([Reply.text("Hi.")]) as house:
        session = new_id()
        request = pb.PrepareSandboxRequest(session=f"sessions/{session}", account="default", model=MODEL)
        for _ in range(2):
            await house.stub().PrepareSandbox(request, metadata=house.metadata(), timeout=60)

        async def ready() -> bool:
            return (await states(house)).get(f"sessions/{session}") == event_pb2.SANDBOX_STATE_IDLE

        await wait_until(ready, timeout=60)
        result = await house.run(session, "Hello")
        assert "sandbox_changed" not in result.kinds


async def test_model_and_permission_mode_change_between_turns_without_a_restart(
    open_runner: OpenRunner,
) -> None:
    touch = Reply.tool("Bash", {"command": "touch x", "description": "Touch"})
    async with open_runner([Reply.text("One."), touch, Reply.text("Two.")]) as house:
        session = new_id()
        await house.run(session, "First")
        options = turn_pb2.TurnOptions(permission_mode=turn_pb2.PERMISSION_MODE_BYPASS_PERMISSIONS)
        second = await house.run(session, "Second", model="test/other", options=options)
        assert second.finished.result == "Two."
        assert "sandbox_changed" not in second.kinds
        assert house.model.prompts[-1]["model"] == "test/other"


async def test_what_comes_late_for_a_session_that_is_deleted_leaves_nothing(open_runner: OpenRunner) -> None:
    async with open_runner([Reply.text("Hi.")]) as house:
        session = new_id()
        name = f"sessions/{session}"
        await house.run(session, "Hello")
        delete = house.stub().DeleteSandbox(
            pb.DeleteSandboxRequest(session=name), metadata=house.metadata(), timeout=60
        )
        prepare = pb.PrepareSandboxRequest(session=name, account="default", model=MODEL)
        late = [house.stub().PrepareSandbox(prepare, metadata=house.metadata(), timeout=60) for _ in range(5)]
        await asyncio.gather(delete, *late, return_exceptions=True)
        for call in (house.run(session, "Still there?"), house.write(session, "late", b"1")):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            failure = Failure.from_rpc_error(caught.value, "runner")
            assert failure.reason == errors_pb2.ERROR_REASON_SESSION_NOT_FOUND
        assert await sandboxes(house) == []
        assert [path for path in below(house.data_dir) if session in path.name] == []
