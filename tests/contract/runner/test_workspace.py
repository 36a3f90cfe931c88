"""Files, changes and snapshots of workspaces, over the wire."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.runner.v1 import runner_service_pb2 as pb
from pointsman.session.v1 import event_pb2
from pointsman.session.v1 import workspace_service_pb2 as ws
from servicekit.errors import Failure
from support.files import below
from support.runner_house import RunnerHouse, new_id
from support.scripted_anthropic import Reply

OpenRunner = Callable[..., Any]


def bash(command: str) -> Reply:
    return Reply.tool("Bash", {"command": command, "description": "Do it"})


async def snapshot(
    house: RunnerHouse, session: str, snapshot_id: str, tenant: str = "acme", source: str = ""
) -> int:
    request = pb.CreateSnapshotRequest(
        session=f"sessions/{session}", snapshot_id=snapshot_id, source_snapshot_id=source
    )
    answer = await house.stub().CreateSnapshot(request, metadata=house.metadata(tenant), timeout=60)
    return int(answer.size_bytes)


async def restore(house: RunnerHouse, session: str, snapshot_id: str, tenant: str = "acme") -> None:
    request = pb.RestoreSnapshotRequest(session=f"sessions/{session}", snapshot_id=snapshot_id)
    await house.stub().RestoreSnapshot(request, metadata=house.metadata(tenant), timeout=60)


def reason(error: grpc.aio.AioRpcError) -> int:
    return Failure.from_rpc_error(error, "runner").reason


async def test_what_a_command_wrote_is_told_with_a_diff(open_runner: OpenRunner) -> None:
    async with open_runner(
        [bash("echo new > new.txt; echo two > old.txt; rm gone.txt"), Reply.text("Done.")]
    ) as house:
        session = new_id()
        await house.write(session, "old.txt", b"one\n")
        await house.write(session, "gone.txt", b"soon\n")
        result = await house.run(session, "Go")
        changes = {change.path: change for change in result.of("file_change")}
        assert changes["new.txt"].type == event_pb2.FILE_CHANGE_TYPE_CREATED
        assert changes["gone.txt"].type == event_pb2.FILE_CHANGE_TYPE_DELETED
        assert changes["old.txt"].type == event_pb2.FILE_CHANGE_TYPE_MODIFIED
        assert "-one\n+two\n" in changes["old.txt"].diff
        assert "--- a/old.txt\n+++ b/old.txt\n" in changes["old.txt"].diff


def write(path: str, content: str) -> Reply:
    return Reply.tool("Write", {"file_path": f"/workspace/{path}", "content": content})


def apply(diff: str, folder: Path) -> None:
    subprocess.run(["git", "apply", "-"], input=diff.encode(), cwd=folder, check=True, timeout=60)


async def test_the_diffs_of_edit_tools_reproduce_the_file(open_runner: OpenRunner, tmp_path: Path) -> None:
    edit = {"file_path": "/workspace/mixed.txt", "old_string": "two", "new_string": "TWO"}
    script = [
        write("lf.txt", "one\ntwo\n"),
        write("crlf.bat", "one\r\ntwo\r\n"),
        write("no-end.txt", "one"),
        write("empty.txt", ""),
        write("separator.js", "s = 'a\u2028b\x85'\n"),
        Reply.tool("Read", {"file_path": "/workspace/mixed.txt"}),
        Reply.tool("Edit", edit),
        bash("printf 'a\\0b' > data.bin; printf 'x\\r\\ny' > by-command.txt; chmod 0 crlf.bat"),
        Reply.text("Done."),
    ]
    async with open_runner(script) as house:
        session = new_id()
        await house.write(session, "mixed.txt", b"one\r\ntwo\r\nthree")
        result = await house.run(session, "Go")
        (tmp_path / "mixed.txt").write_bytes(b"one\r\ntwo\r\nthree")
        for change in result.of("file_change"):
            await asyncio.to_thread(apply, change.diff, tmp_path)
        told = {change.path for change in result.of("file_change")}
        assert told == {"lf.txt", "crlf.bat", "no-end.txt", "empty.txt", "separator.js", "mixed.txt"} | {
            "data.bin",
            "by-command.txt",
        }
        for path in told:
            assert (tmp_path / path).read_bytes() == await house.read(session, path), path


async def test_the_diff_since_a_turn_began_has_every_change_after_it(open_runner: OpenRunner) -> None:
    script = [bash("echo 1 > a"), Reply.text("1"), bash("echo 2 > a; echo 2 > b"), Reply.text("2")]
    async with open_runner(script) as house:
        session, first, second = new_id(), new_id(), new_id()
        await house.run(session, "One", turn=first)
        await house.run(session, "Two", turn=second)

        async def changed(turn: str) -> dict[str, int]:
            since = f"sessions/{session}/turns/{turn}" if turn else ""
            asked = ws.DiffWorkspaceRequest(session=f"sessions/{session}", since_turn=since)
            answer = await house.stub().DiffWorkspace(
                pb.DiffWorkspaceRequest(request=asked), metadata=house.metadata(), timeout=60
            )
            return {change.path: change.type for change in answer.response.changes}

        created, modified = event_pb2.FILE_CHANGE_TYPE_CREATED, event_pb2.FILE_CHANGE_TYPE_MODIFIED
        assert await changed(first) == {"a": created, "b": created}
        assert await changed(second) == {"a": modified, "b": created}
        assert await changed("") == await changed(second)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await changed(new_id())
        assert reason(caught.value) == errors_pb2.ERROR_REASON_TURN_NOT_FOUND


async def test_a_snapshot_is_restored_whole_into_its_session_and_into_others(open_runner: OpenRunner) -> None:
    make = bash(
        "mkdir -p src; echo print > src/run.sh; chmod +x src/run.sh; ln -s src/run.sh run; touch empty"
    )
    look = bash("ls; stat -c %a src/run.sh; readlink run; touch mine")
    script = [
        make,
        Reply.text("Made."),
        bash("rm -rf src; touch later"),
        Reply.text("Gone."),
        look,
        Reply.text("!"),
    ]
    async with open_runner(script) as house:
        session, kept = new_id(), new_id()
        await house.run(session, "Make")
        size = await snapshot(house, session, kept)
        assert size == await snapshot(house, session, kept) == len("print\n")
        await house.run(session, "Remove")
        await restore(house, session, kept)
        assert {info.path for info in await house.list(session)} == {"src", "run", "empty"}
        fork = new_id()
        await restore(house, fork, kept)
        result = await house.run(fork, "Look")
        assert result.of("tool_result")[0].content.split() == ["empty", "run", "src", "755", "src/run.sh"]
        assert "mine" not in {info.path for info in await house.list(session)}


async def test_a_snapshot_of_another_tenant_is_not_there(open_runner: OpenRunner) -> None:
    async with open_runner() as house:
        session, kept = new_id(), new_id()
        await house.write(session, "a", b"1")
        await snapshot(house, session, kept)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await restore(house, session, kept, tenant="evil")
        assert reason(caught.value) == errors_pb2.ERROR_REASON_SNAPSHOT_NOT_FOUND


async def test_a_snapshot_that_is_kept_again_outlives_the_first(open_runner: OpenRunner) -> None:
    async with open_runner() as house:
        session, first, again = new_id(), new_id(), new_id()
        await house.write(session, "a", b"123")
        await snapshot(house, session, first)
        await house.write(session, "a", b"changed")
        for _ in range(2):
            await snapshot(house, session, again, source=first)
        delete = pb.DeleteSnapshotRequest(snapshot_id=first)
        await house.stub().DeleteSnapshot(delete, metadata=house.metadata(), timeout=60)
        fork = new_id()
        await restore(house, fork, again)
        assert await house.read(fork, "a") == b"123"
        for tenant, source in (("acme", first), ("evil", again)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await snapshot(house, session, new_id(), tenant, source=source)
            assert reason(caught.value) == errors_pb2.ERROR_REASON_SNAPSHOT_NOT_FOUND


async def test_the_same_session_id_of_two_tenants_is_two_sessions(open_runner: OpenRunner) -> None:
    async with open_runner() as house:
        session = new_id()
        await house.write(session, "secret", b"1")
        assert await house.list(session, tenant="evil") == []
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await house.read(session, "secret", tenant="evil")
        assert reason(caught.value) == errors_pb2.ERROR_REASON_FILE_NOT_FOUND


@pytest.mark.parametrize(
    "path", ["../x", "/etc/passwd", "a/../../x", "link/passwd", "link", "fifo", "folder", "a\0b", "x" * 300]
)
async def test_paths_that_are_no_file_of_the_workspace_are_refused(
    open_runner: OpenRunner, path: str
) -> None:
    make = bash("ln -s /etc link; mkfifo fifo; mkdir folder")
    async with open_runner([make, Reply.text("Made.")]) as house:
        session = new_id()
        await house.run(session, "Make")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await house.read(session, path)
        assert reason(caught.value) == errors_pb2.ERROR_REASON_PATH_REFUSED


async def test_files_are_listed_in_pages_in_order(open_runner: OpenRunner) -> None:
    async with open_runner() as house:
        session = new_id()
        for name in ("b/2", "a", "b/1", "c", "b.txt", "b/d/e"):
            await house.write(session, name, b"")
        found: list[str] = []
        token = ""
        while True:
            asked = ws.ListFilesRequest(
                session=f"sessions/{session}", recursive=True, page_size=2, page_token=token
            )
            answer = await house.stub().ListFiles(
                pb.ListFilesRequest(request=asked), metadata=house.metadata(), timeout=60
            )
            found += [info.path for info in answer.response.files]
            token = answer.response.next_page_token
            if not token:
                break
        assert found == ["a", "b", "b/1", "b/2", "b/d", "b/d/e", "b.txt", "c"]


async def test_deleting_a_sandbox_removes_its_files(open_runner: OpenRunner, tmp_path: Path) -> None:
    async with open_runner([Reply.text("Hi.")]) as house:
        session = new_id()
        await house.write(session, "a", b"1")
        await house.run(session, "Hello")
        for _ in range(2):
            await house.stub().DeleteSandbox(
                pb.DeleteSandboxRequest(session=f"sessions/{session}"), metadata=house.metadata(), timeout=60
            )
        left = [path for path in below(tmp_path / "data" / "runner") if session in path.name]
        assert left == []
