"""What a workspace takes is counted as the kernel counts it: names, files without a name, entries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import grpc
import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.runner.v1 import runner_service_pb2 as pb
from pointsman.session.v1 import event_pb2, turn_pb2
from pointsman.session.v1 import workspace_service_pb2 as ws
from runner.config import RunnerConfig
from runner.sandboxes.protocol import INSTANCE_TYPES, MIB
from runner.workspace.usage import disk_usage
from servicekit.errors import Failure
from servicekit.testing import wait_until
from support.runner_house import RunnerHouse, new_id
from support.scripted_anthropic import Reply

OpenRunner = Callable[..., Any]
FULL = errors_pb2.ERROR_REASON_WORKSPACE_FULL
SMALL = replace(
    INSTANCE_TYPES["standard-4"], memory_bytes=1024 * MIB, workspace_bytes=64 * MIB, workspace_entries=3000
)


@pytest.fixture(autouse=True)
def limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunnerConfig, "limits", property(lambda self: SMALL))


def python(code: str) -> list[Reply]:
    """Run a program in /workspace, which holds still for a while after what it did."""
    command = (
        f"cat > /tmp/p.py <<'END'\nimport mmap, os, socket, sys, time\n{code}\nEND\npython3 -I /tmp/p.py"
    )
    return [
        Reply.tool("Bash", {"command": command, "description": "Do it", "timeout": 60000}),
        Reply.text("Done."),
    ]


WAIT = "sys.stdout.flush(); time.sleep(30)"
UNLINKED = f"""
for i in range(100):
    fd = os.open(f'x{{i}}', os.O_RDWR | os.O_CREAT); os.unlink(f'x{{i}}')
    os.write(fd, bytes(1 << 20)); time.sleep(0.02)
{WAIT}"""
UNNAMED = f"""
for i in range(100):
    fd = os.open('.', os.O_RDWR | os.O_TMPFILE)
    os.write(fd, bytes(1 << 20)); time.sleep(0.02)
{WAIT}"""
MAPPED = f"""
held = []
for i in range(100):
    fd = os.open('m', os.O_RDWR | os.O_CREAT); os.unlink('m')
    os.write(fd, bytes(1 << 20)); held.append(mmap.mmap(fd, 4096)); os.close(fd); time.sleep(0.02)
{WAIT}"""
SENT = f"""
pairs = []
for i in range(100):
    fd = os.open('s', os.O_RDWR | os.O_CREAT); os.unlink('s')
    os.write(fd, bytes(1 << 20)); pair = socket.socketpair(); pairs.append(pair)
    socket.send_fds(pair[0], [b'x'], [fd]); os.close(fd); time.sleep(0.02)
{WAIT}"""
CHILD = f"""
for i in range(10):
    if os.fork() == 0:
        for j in range(10):
            fd = os.open(f'c{{i}}', os.O_RDWR | os.O_CREAT); os.unlink(f'c{{i}}')
            os.write(fd, bytes(1 << 20)); time.sleep(0.02)
        time.sleep(30)
{WAIT}"""
EMPTY = f"""
for i in range(20000):
    os.close(os.open(f'e{{i}}', os.O_CREAT)); time.sleep(0.0002)
{WAIT}"""
DEEP = f"""
for i in range(4000):
    if i % 100 == 0: os.chdir('/workspace')
    os.mkdir(f'd{{i}}'); os.chdir(f'd{{i}}'); time.sleep(0.0005)
{WAIT}"""
LINKED = f"""
open('one', 'w').close()
for i in range(4000):
    os.link('one', f'l{{i}}')
{WAIT}"""


@pytest.mark.parametrize(
    "code",
    [UNLINKED, UNNAMED, MAPPED, SENT, CHILD, EMPTY, DEEP, LINKED],
    ids=["unlinked", "unnamed", "mapped", "sent", "of children", "empty files", "deep", "hard links"],
)
async def test_what_takes_more_than_it_may_ends_the_turn(open_runner: OpenRunner, code: str) -> None:
    async with open_runner(python(code)) as house:
        session = new_id()
        result = await house.run(session, "Take it")
        assert result.finished.error.reason == FULL, result.finished
        assert result.finished.error.metadata["limit"] in ("3000", str(64 * MIB))
        if code not in (EMPTY, DEEP, LINKED):
            # What had no name went with its processes.
            used = await disk_usage(house.data_dir / "runner" / "workspaces")
            assert used.bytes < 2 * MIB


MEMORY = """
fd = os.memfd_create('m')
for i in range(3000): os.write(fd, bytes(1 << 20))
print('kept')"""
ORDINARY = """
import tempfile
for i in range(50):
    with tempfile.TemporaryFile(dir='.') as file: file.write(bytes(1 << 20))
os.mkdir('src')
for i in range(200): open(f'src/f{i}', 'w').write('x')
print('kept')"""


async def test_memory_files_count_as_memory(open_runner: OpenRunner) -> None:
    async with open_runner(python(MEMORY)) as house:
        result = await house.run(new_id(), "Keep it")
        assert result.finished.error.reason == errors_pb2.ERROR_REASON_SANDBOX_OUT_OF_MEMORY or not any(
            "kept" in said.content for said in result.of("tool_result")
        )


async def test_what_stays_below_the_limit_goes_on(open_runner: OpenRunner) -> None:
    async with open_runner(python(ORDINARY)) as house:
        result = await house.run(new_id(), "Work")
        assert result.finished.outcome == turn_pb2.TURN_STATE_SUCCEEDED, result.finished
        assert "kept" in result.of("tool_result")[0].content


async def test_a_frozen_sandbox_that_takes_more_is_ended(
    open_runner: OpenRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_runner([Reply.text("Hello.")], pause_after="1s") as house:
        session = new_id()
        await house.run(session, "Hello")

        async def states() -> list[int]:
            answer = await house.stub().ListSandboxes(
                pb.ListSandboxesRequest(), metadata=house.metadata(), timeout=60
            )
            return [sandbox.state for sandbox in answer.sandboxes if sandbox.session]

        await wait_until(lambda: _is(states, [event_pb2.SANDBOX_STATE_PAUSED]), timeout=60)
        (workspace,) = (house.data_dir / "runner" / "workspaces").glob(f"*/{session}")
        # Whoever writes it: the limit holds whatever the state is.
        await asyncio.to_thread((workspace / "large").write_bytes, bytes(100 * MIB))
        await wait_until(lambda: _is(states, []), timeout=60)


async def _is(states: Callable[[], Any], wanted: list[int]) -> bool:
    return bool(await states() == wanted)


async def test_files_beyond_the_limit_are_not_written(open_runner: OpenRunner) -> None:
    async with open_runner() as house:
        session = new_id()
        await house.write(session, "kept", b"1")
        (workspace,) = (house.data_dir / "runner" / "workspaces").glob(f"*/{session}")
        for number in range(SMALL.workspace_entries - 3):
            (workspace / f"f{number}").touch()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await house.write(session, "new/folder/file", b"1")
        failure = Failure.from_rpc_error(caught.value, "runner")
        assert (failure.reason, failure.metadata["limit"]) == (FULL, "3000")
        # What is there may be written again, and one more file fits.
        await house.write(session, "kept", b"2")
        await house.write(session, "last", b"1")


async def test_lists_of_a_large_folder_side_by_side_take_little(open_runner: OpenRunner) -> None:
    async with open_runner() as house:
        session = new_id()
        await house.write(session, "d/first", b"1")
        (workspace,) = (house.data_dir / "runner" / "workspaces").glob(f"*/{session}")
        for number in range(30_000):
            (workspace / "d" / f"{number:x}").touch()
        pages = await asyncio.gather(*(_page(house, session) for _ in range(24)))
        assert all(len(page.files) == 1 and page.next_page_token for page in pages)


async def _page(house: RunnerHouse, session: str) -> ws.ListFilesResponse:
    asked = ws.ListFilesRequest(session=f"sessions/{session}", path="d", page_size=1)
    answer = await house.stub().ListFiles(
        pb.ListFilesRequest(request=asked), metadata=house.metadata(), timeout=60
    )
    return answer.response


async def test_a_snapshot_that_is_cancelled_leaves_nothing(open_runner: OpenRunner) -> None:
    async with open_runner() as house:
        session, snapshot_id = new_id(), new_id()
        await house.write(session, "a", b"1")
        (workspace,) = (house.data_dir / "runner" / "workspaces").glob(f"*/{session}")
        for number in range(60):
            await asyncio.to_thread((workspace / f"large{number}").write_bytes, bytes(MIB))
        root = house.data_dir / "runner" / "snapshots"
        request = pb.CreateSnapshotRequest(session=f"sessions/{session}", snapshot_id=snapshot_id, owned=True)
        for seconds in (0.001, 0.004, 0.01, 0.02):
            with pytest.raises(grpc.aio.AioRpcError):
                await house.stub().CreateSnapshot(request, metadata=house.metadata(), timeout=seconds)
        # Waits until they have ended. One that was there would be returned, whatever its size.
        small = pb.CreateSnapshotRequest(session=request.session, snapshot_id=snapshot_id, max_bytes=1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await house.stub().CreateSnapshot(small, metadata=house.metadata(), timeout=60)
        reason = Failure.from_rpc_error(caught.value, "runner").reason
        assert reason == errors_pb2.ERROR_REASON_SNAPSHOT_LIMIT
        assert [path for path in root.rglob("*") if path.is_file()] == []
        answer = await house.stub().CreateSnapshot(request, metadata=house.metadata(), timeout=60)
        assert answer.size_bytes == 60 * MIB + 1
        await house.stub().DeleteSandbox(
            pb.DeleteSandboxRequest(session=f"sessions/{session}"), metadata=house.metadata(), timeout=60
        )
        assert [path for path in root.rglob("*") if path.is_file()] == []
