"""A session whose files are not on the runner is refused; nothing makes an empty workspace in their place."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.runner.v1 import runner_service_pb2 as pb
from pointsman.session.v1 import workspace_service_pb2 as ws
from runner.app import app
from runner.config import RunnerConfig
from servicekit.config import ConfigError
from servicekit.errors import Failure
from servicekit.testing import started
from support.runner_house import new_id
from support.scripted_anthropic import Reply

SNAPSHOT = "00000000-0000-4000-8000-000000000001"


async def reason_of(call: Any) -> str:
    """Return the reason that a call is refused for."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        if hasattr(call, "__await__"):
            await call
        else:
            async for _ in call:
                pass
    failure = Failure.from_rpc_error(raised.value, "runner")
    assert raised.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "snapshot" in failure.message
    return failure.reason_name


def calls(house: Any, session: str) -> dict[str, Any]:
    """Return a call of each kind that would make a workspace, for a session that has one."""
    stub, name, how = house.stub(), f"sessions/{session}", {"metadata": house.metadata(), "timeout": 60}
    made: Any = {"workspace_made": True}
    read = ws.ReadFileRequest(session=name, path="a")
    write = ws.WriteFileRequest(session=name, path="a", data=b"b")
    delete = ws.DeleteFileRequest(session=name, path="a")
    prepare = pb.PrepareSandboxRequest(session=name, account="default", model="test/model", **made)
    listing, diff = ws.ListFilesRequest(session=name), ws.DiffWorkspaceRequest(session=name)
    return {
        "turn": house.follow(house.request(session, "Go on", **made)),
        "prepare": stub.PrepareSandbox(prepare, **how),
        "list": stub.ListFiles(pb.ListFilesRequest(request=listing, **made), **how),
        "read": stub.ReadFile(pb.ReadFileRequest(request=read, **made), **how),
        "write": stub.WriteFile(pb.WriteFileRequest(request=write, **made), **how),
        "delete": stub.DeleteFile(pb.DeleteFileRequest(request=delete, **made), **how),
        "diff": stub.DiffWorkspace(pb.DiffWorkspaceRequest(request=diff, **made), **how),
        "snapshot": stub.CreateSnapshot(
            pb.CreateSnapshotRequest(session=name, snapshot_id=new_id(), **made), **how
        ),
    }


async def test_every_call_is_refused_and_none_makes_an_empty_workspace(
    open_runner: Callable[..., Any], tmp_path: Path
) -> None:
    session = new_id()
    async with open_runner() as house:
        for kind, call in calls(house, session).items():
            assert await reason_of(call) == "WORKSPACE_MISSING", kind
        assert list((tmp_path / "data/runner").glob(f"workspaces/*/{session}")) == []


async def test_a_session_that_never_had_one_gets_its_workspace(open_runner: Callable[..., Any]) -> None:
    session = new_id()
    async with open_runner() as house:
        house.model.script = [Reply.text("Hello.")]
        result = await house.run(session, "Hello")
        assert result.finished.error.reason == errors_pb2.ERROR_REASON_UNSPECIFIED
        assert await house.list(session) == []


async def test_lost_under_a_warm_sandbox_it_is_refused_until_a_snapshot_is_restored(
    open_runner: Callable[..., Any], tmp_path: Path
) -> None:
    session = new_id()
    write = Reply.tool("Write", {"file_path": "/workspace/a.txt", "content": "kept"})
    async with open_runner() as house:
        house.model.script = [write, Reply.text("Done."), Reply.text("Again.")]
        await house.run(session, "Write")
        stub, how = house.stub(), {"metadata": house.metadata(), "timeout": 60}
        name = f"sessions/{session}"
        await stub.CreateSnapshot(pb.CreateSnapshotRequest(session=name, snapshot_id=SNAPSHOT), **how)
        shutil.rmtree(tmp_path / "data/runner/workspaces")
        for kind, call in calls(house, session).items():
            assert await reason_of(call) == "WORKSPACE_MISSING", kind
        await stub.RestoreSnapshot(pb.RestoreSnapshotRequest(session=name, snapshot_id=SNAPSHOT), **how)
        assert await house.read(session, "a.txt") == b"kept"
        result = await house.run(session, "Go on", workspace_made=True)
        assert result.finished.error.reason == errors_pb2.ERROR_REASON_UNSPECIFIED


async def test_a_second_runner_on_the_same_data_is_refused_in_one_line(
    open_runner: Callable[..., Any], keys: Any, tmp_path: Path
) -> None:
    config = RunnerConfig(
        address="127.0.0.1:0",
        passport_keys=keys.jwks,
        passport_key=keys.directory,
        data_dir=tmp_path / "data",
    )
    async with open_runner():
        with pytest.raises(ConfigError, match=r"runner is in use by another runner.*Stop that one"):
            async with started(app, config):
                pass
