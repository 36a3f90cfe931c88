"""Sandboxes, files and snapshots of the scripted runner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from pointsman.errors.v1 import errors_pb2
from pointsman.runner.v1 import runner_service_pb2 as runner
from pointsman.runner.v1 import runner_service_pb2_grpc
from pointsman.session.v1 import event_pb2, workspace_service_pb2
from servicekit.errors import Failure


class ScriptedWorkspaces(runner_service_pb2_grpc.RunnerServiceServicer):
    """What a runner keeps for sessions, as callers of it see it."""

    def __init__(self) -> None:
        self.prepared: list[runner.PrepareSandboxRequest] = []
        self.deleted: list[str] = []
        self.snapshots: dict[str, str] = {}
        """Whose workspace each snapshot is of."""
        self.packing = 0
        """Snapshots that were begun."""
        self.packing_stopped = 0
        """Those whose caller went away."""
        self.packed: list[runner.CreateSnapshotRequest] = []
        self.lose_answers = False
        """Set: snapshots are made, and their answers never arrive."""
        self.may_pack = asyncio.Event()
        """Cleared: snapshots wait in their middle."""
        self.may_pack.set()
        self.kept_again: dict[str, str] = {}
        """Which snapshot another one was made from."""
        self.allowed_hosts = {"example.org", "*.example.net"}
        self.restored: list[tuple[str, str]] = []
        """Sessions, and the snapshot that first held what they got."""
        self.files: dict[tuple[str, str], bytes] = {}
        self.may_write = True
        self.sandboxes: dict[str, event_pb2.SandboxState.ValueType] = {}

    async def PrepareSandbox(
        self, request: runner.PrepareSandboxRequest, _context: Any
    ) -> runner.PrepareSandboxResponse:
        for host in request.sandbox.egress_hosts:
            if host not in self.allowed_hosts:
                raise Failure(
                    errors_pb2.ERROR_REASON_EGRESS_NOT_ALLOWED, f"{host} is not allowed here.", host=host
                )
        self.prepared.append(request)
        return runner.PrepareSandboxResponse()

    async def DeleteSandbox(
        self, request: runner.DeleteSandboxRequest, _context: Any
    ) -> runner.DeleteSandboxResponse:
        self.deleted.append(request.session)
        return runner.DeleteSandboxResponse()

    async def CreateSnapshot(
        self, request: runner.CreateSnapshotRequest, _context: Any
    ) -> runner.CreateSnapshotResponse:
        source = request.source_snapshot_id
        if source and source not in self.snapshots:
            raise Failure(errors_pb2.ERROR_REASON_SNAPSHOT_NOT_FOUND, "There is no such snapshot.")
        self.packing += 1
        self.packed.append(request)
        try:
            await self.may_pack.wait()
        except asyncio.CancelledError:
            self.packing_stopped += 1
            raise
        self.snapshots[request.snapshot_id] = self.snapshots[source] if source else request.session
        if source:
            self.kept_again[request.snapshot_id] = self.kept_again.get(source, source)
        if self.lose_answers:
            raise Failure(errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE, "The answer is lost.")
        return runner.CreateSnapshotResponse(size_bytes=0 if source else 42)

    async def RestoreSnapshot(
        self, request: runner.RestoreSnapshotRequest, _context: Any
    ) -> runner.RestoreSnapshotResponse:
        if request.snapshot_id not in self.snapshots:
            raise Failure(errors_pb2.ERROR_REASON_SNAPSHOT_NOT_FOUND, "There is no such snapshot.")
        first = self.kept_again.get(request.snapshot_id, request.snapshot_id)
        self.restored.append((request.session, first))
        return runner.RestoreSnapshotResponse()

    async def DeleteSnapshot(
        self, request: runner.DeleteSnapshotRequest, _context: Any
    ) -> runner.DeleteSnapshotResponse:
        self.snapshots.pop(request.snapshot_id, None)
        return runner.DeleteSnapshotResponse()

    async def WriteFile(self, request: runner.WriteFileRequest, _context: Any) -> runner.WriteFileResponse:
        asked = request.request
        if not self.may_write:
            raise Failure(errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE, "The runner is gone.")
        self.files[asked.session, asked.path] = asked.data
        info = workspace_service_pb2.FileInfo(path=asked.path, size_bytes=len(asked.data))
        return runner.WriteFileResponse(response=workspace_service_pb2.WriteFileResponse(file=info))

    async def ReadFile(
        self, request: runner.ReadFileRequest, _context: Any
    ) -> AsyncIterator[runner.ReadFileResponse]:
        asked = request.request
        if (asked.session, asked.path) not in self.files:
            raise Failure(errors_pb2.ERROR_REASON_FILE_NOT_FOUND, "There is no such file.")
        data = self.files[asked.session, asked.path]
        yield runner.ReadFileResponse(response=workspace_service_pb2.ReadFileResponse(data=data))

    async def ListFiles(self, request: runner.ListFilesRequest, _context: Any) -> runner.ListFilesResponse:
        found = [
            workspace_service_pb2.FileInfo(path=path)
            for session, path in sorted(self.files)
            if session == request.request.session
        ]
        return runner.ListFilesResponse(response=workspace_service_pb2.ListFilesResponse(files=found))

    async def DeleteFile(self, request: runner.DeleteFileRequest, _context: Any) -> runner.DeleteFileResponse:
        self.files.pop((request.request.session, request.request.path), None)
        return runner.DeleteFileResponse()

    async def DiffWorkspace(
        self, request: runner.DiffWorkspaceRequest, _context: Any
    ) -> runner.DiffWorkspaceResponse:
        paths = [path for session, path in sorted(self.files) if session == request.request.session]
        changes = [event_pb2.FileChange(path=path) for path in paths]
        return runner.DiffWorkspaceResponse(
            response=workspace_service_pb2.DiffWorkspaceResponse(changes=changes)
        )

    async def HibernateSandbox(
        self, request: runner.HibernateSandboxRequest, _context: Any
    ) -> runner.HibernateSandboxResponse:
        return runner.HibernateSandboxResponse()

    async def ListSandboxes(
        self, request: runner.ListSandboxesRequest, _context: Any
    ) -> runner.ListSandboxesResponse:
        found = [runner.Sandbox(session=name, state=state) for name, state in self.sandboxes.items()]
        return runner.ListSandboxesResponse(sandboxes=found)
