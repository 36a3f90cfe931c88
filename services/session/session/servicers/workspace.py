"""WorkspaceService."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from pointsman.session.v1 import workspace_service_pb2 as pb
from pointsman.session.v1 import workspace_service_pb2_grpc
from servicekit.context import current_passport, current_request_id, log_fields

from session import names
from session.caller import Caller
from session.sessions.files import Files
from session.sessions.snapshots import Snapshots


class WorkspaceServicer(workspace_service_pb2_grpc.WorkspaceServiceServicer):
    """The files of a session."""

    def __init__(self, files: Files, snapshots: Snapshots) -> None:
        self._files = files
        self._snapshots = snapshots

    async def ListFiles(self, request: pb.ListFilesRequest, _context: Any) -> pb.ListFilesResponse:
        """Return what lies in a folder."""
        return await self._files.list(*_of(request.session), request)

    async def ReadFile(
        self, request: pb.ReadFileRequest, _context: Any
    ) -> AsyncIterator[pb.ReadFileResponse]:
        """Stream a file."""
        async for piece in self._files.read(*_of(request.session), request):
            yield piece

    async def WriteFile(self, request: pb.WriteFileRequest, _context: Any) -> pb.WriteFileResponse:
        """Write a file."""
        return await self._files.write(*_of(request.session), request)

    async def DeleteFile(self, request: pb.DeleteFileRequest, _context: Any) -> pb.DeleteFileResponse:
        """Delete a file or folder."""
        return await self._files.delete(*_of(request.session), request)

    async def DiffWorkspace(
        self, request: pb.DiffWorkspaceRequest, _context: Any
    ) -> pb.DiffWorkspaceResponse:
        """Return what changed since a turn began."""
        return await self._files.diff(*_of(request.session), request)

    async def CreateSnapshot(
        self, request: pb.CreateSnapshotRequest, _context: Any
    ) -> pb.CreateSnapshotResponse:
        """Keep the workspace."""
        caller, session_id, _ = _of(request.session)
        request_id = names.request_id_of(request.request_id)
        snapshot = await self._snapshots.create(caller, session_id, request_id, request.title)
        return pb.CreateSnapshotResponse(snapshot=snapshot)

    async def ListSnapshots(
        self, request: pb.ListSnapshotsRequest, _context: Any
    ) -> pb.ListSnapshotsResponse:
        """Return a page of snapshots."""
        caller, session_id, _ = _of(request.session)
        found, token = await self._snapshots.page(caller, session_id, request.page_size, request.page_token)
        return pb.ListSnapshotsResponse(snapshots=found, next_page_token=token)

    async def DeleteSnapshot(
        self, request: pb.DeleteSnapshotRequest, _context: Any
    ) -> pb.DeleteSnapshotResponse:
        """Delete a snapshot."""
        session_id, snapshot_id = names.snapshot_ids_of(request.name)
        caller, _, request_id = _of(names.session_name(session_id))
        await self._snapshots.delete(caller, session_id, snapshot_id, request_id)
        return pb.DeleteSnapshotResponse()

    async def RestoreSnapshot(
        self, request: pb.RestoreSnapshotRequest, _context: Any
    ) -> pb.RestoreSnapshotResponse:
        """Make the workspace what it was."""
        session_id, snapshot_id = names.snapshot_ids_of(request.name)
        caller, _, request_id = _of(names.session_name(session_id))
        await self._snapshots.restore(caller, session_id, snapshot_id, request_id)
        return pb.RestoreSnapshotResponse()


def _of(session: str) -> tuple[Caller, str, str]:
    """Return what every call on a session's files begins with, and log whose they are."""
    log_fields(session=session)
    return Caller.of(current_passport()), names.session_id_of(session, "session"), current_request_id()
