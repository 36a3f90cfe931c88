"""The file calls of RunnerService."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp
from pointsman.runner.v1 import runner_service_pb2 as pb
from pointsman.session.v1 import event_pb2
from pointsman.session.v1 import workspace_service_pb2 as ws
from servicekit.context import current_passport, log_fields

from runner.bounded import clean
from runner.lifecycle.lifecycle import Lifecycle
from runner.names import SessionRef
from runner.workspace import files
from runner.workspace.listing import Entry
from runner.workspace.store import WorkspaceStore

_PAGE: Final = 200
_PIECE_BYTES: Final = 256 * 1024
_MESSAGE_BYTES: Final = 3 * 1024 * 1024
_KINDS: Final = {
    "file": ws.FILE_TYPE_FILE,
    "directory": ws.FILE_TYPE_DIRECTORY,
    "other": ws.FILE_TYPE_OTHER,
}

Context = Any


class FilesServicer:
    """Reads and writes workspaces. A session that has no workspace yet has an empty one."""

    def __init__(self, lifecycle: Lifecycle, store: WorkspaceStore) -> None:
        self._lifecycle = lifecycle
        self._store = store

    def _named(self, name: str, *, made: bool = False) -> SessionRef:
        """Return the session. `made`: WORKSPACE_MISSING when it has no workspace here."""
        log_fields(session=name)
        session = SessionRef.parse(current_passport().tenant, name)
        self._store.places.check(session, made=made)
        return session

    async def ListFiles(self, request: pb.ListFilesRequest, context: Context) -> pb.ListFilesResponse:
        """See runner_service.proto."""
        asked = request.request
        found, token = await self._store.page(
            self._named(asked.session, made=request.workspace_made),
            asked.path,
            recursive=asked.recursive,
            token=asked.page_token,
            limit=asked.page_size or _PAGE,
        )
        response = ws.ListFilesResponse(files=[_info(entry) for entry in found], next_page_token=token)
        return pb.ListFilesResponse(response=response)

    async def ReadFile(
        self, request: pb.ReadFileRequest, context: Context
    ) -> AsyncIterator[pb.ReadFileResponse]:
        """See runner_service.proto."""
        asked = request.request
        root = await self._store.places.ensure(self._named(asked.session, made=request.workspace_made))
        descriptor, entry = await asyncio.to_thread(files.open_file, root, asked.path)
        try:
            offset, left = asked.offset, asked.limit or max(entry.size, 0)
            info: ws.FileInfo | None = _info(entry)
            while info is not None or left > 0:
                piece = await asyncio.to_thread(os.pread, descriptor, min(_PIECE_BYTES, left), offset)
                if info is None and not piece:
                    return
                yield pb.ReadFileResponse(response=ws.ReadFileResponse(file=info, data=piece))
                info, offset, left = None, offset + len(piece), left - len(piece)
        finally:
            os.close(descriptor)

    async def WriteFile(self, request: pb.WriteFileRequest, context: Context) -> pb.WriteFileResponse:
        """See runner_service.proto."""
        asked = request.request
        entry = await self._store.write(
            self._named(asked.session, made=request.workspace_made), asked.path, asked.data
        )
        return pb.WriteFileResponse(response=ws.WriteFileResponse(file=_info(entry)))

    async def DeleteFile(self, request: pb.DeleteFileRequest, context: Context) -> pb.DeleteFileResponse:
        """See runner_service.proto."""
        await self._store.delete(
            self._named(request.request.session, made=request.workspace_made), request.request.path
        )
        return pb.DeleteFileResponse()

    async def DiffWorkspace(
        self, request: pb.DiffWorkspaceRequest, context: Context
    ) -> pb.DiffWorkspaceResponse:
        """See runner_service.proto."""
        session = self._named(request.request.session, made=request.workspace_made)
        turn_id = request.request.since_turn.rpartition("/")[2]
        changes, more = await self._store.changes(session, turn_id)
        return pb.DiffWorkspaceResponse(response=_fitting(changes, more))

    async def CreateSnapshot(
        self, request: pb.CreateSnapshotRequest, context: Context
    ) -> pb.CreateSnapshotResponse:
        """See runner_service.proto."""
        session, source = (
            self._named(request.session, made=request.workspace_made),
            request.source_snapshot_id,
        )
        if source:
            await self._store.keep_snapshot_again(session, request.snapshot_id, source)
            return pb.CreateSnapshotResponse()
        size = await self._store.create_snapshot(
            session, request.snapshot_id, owned=request.owned, max_bytes=request.max_bytes
        )
        return pb.CreateSnapshotResponse(size_bytes=size)

    async def RestoreSnapshot(
        self, request: pb.RestoreSnapshotRequest, context: Context
    ) -> pb.RestoreSnapshotResponse:
        """See runner_service.proto."""
        session = self._named(request.session)
        async with self._lifecycle.without(session):
            await self._store.restore_snapshot(session, request.snapshot_id)
        return pb.RestoreSnapshotResponse()

    async def DeleteSnapshot(
        self, request: pb.DeleteSnapshotRequest, context: Context
    ) -> pb.DeleteSnapshotResponse:
        """See runner_service.proto."""
        tenant = current_passport().tenant
        await self._store.delete_snapshot(tenant, request.snapshot_id, request.session_id)
        return pb.DeleteSnapshotResponse()


def _fitting(changes: list[event_pb2.FileChange], more: bool) -> ws.DiffWorkspaceResponse:
    """Return as many changes as one message holds."""
    response = ws.DiffWorkspaceResponse(truncated=more)
    size = 0
    for change in changes:
        size += change.ByteSize() + 8
        if size > _MESSAGE_BYTES:
            response.truncated = True
            break
        response.changes.append(change)
    return response


def _info(entry: Entry) -> ws.FileInfo:
    modified = Timestamp()
    modified.FromMicroseconds(int(entry.modified * 1e6))
    path = clean(os.fsencode(entry.path).decode(errors="replace"))
    return ws.FileInfo(path=path, type=_KINDS[entry.kind], size_bytes=entry.size, update_time=modified)
