"""Workspaces: the session service says whose they are, the runner that holds them does the work."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from pointsman.runner.v1 import runner_service_pb2 as runner_pb
from pointsman.session.v1 import workspace_service_pb2 as pb
from servicekit.channels import CallMetadata

from session.caller import Caller
from session.peers import Party, Runner, failures_of
from session.storage.database import Database
from session.storage.statements import sessions

_SECONDS: Final = 15.0
# A file of any size over a slow line.
_READ_SECONDS: Final = 600.0


class Files:
    """Forwards calls on the files of a session that the caller sees."""

    def __init__(self, database: Database, runner: Runner) -> None:
        self._database = database
        self._runner = runner

    async def _seen(self, caller: Caller, session_id: str, request_id: str) -> tuple[CallMetadata, bool]:
        """Return what a call carries, and whether the session's workspace has something in it."""
        session = await self._database.run(lambda tx: sessions.get(tx, caller, session_id))
        party = Party(session.tenant, session.account, caller.principal, request_id)
        return self._runner.metadata(party), bool(session.workspace_made)

    @asynccontextmanager
    async def _writing(
        self, caller: Caller, session_id: str, request_id: str
    ) -> AsyncIterator[tuple[CallMetadata, bool]]:
        """Give what `_seen` returns for a call that changes files.

        Noted before, in case that we die meanwhile, and after: a snapshot that was made in between may not
        have it. A snapshot too many does no harm, one too few does.
        """
        seen = await self._seen(caller, session_id, request_id)
        await self._database.run(lambda tx: sessions.note_change(tx, session_id))
        made = False
        try:
            with failures_of("runner"):
                yield seen
            made = True
        finally:
            await self._database.run(lambda tx: sessions.note_change(tx, session_id, made=made))

    async def list(
        self, caller: Caller, session_id: str, request_id: str, request: pb.ListFilesRequest
    ) -> pb.ListFilesResponse:
        """Return what lies in a folder."""
        metadata, made = await self._seen(caller, session_id, request_id)
        with failures_of("runner"):
            answer = await self._runner.stub.ListFiles(
                runner_pb.ListFilesRequest(request=request, workspace_made=made),
                metadata=metadata,
                timeout=_SECONDS,
            )
        return answer.response

    async def read(
        self, caller: Caller, session_id: str, request_id: str, request: pb.ReadFileRequest
    ) -> AsyncIterator[pb.ReadFileResponse]:
        """Yield a file's pieces."""
        metadata, made = await self._seen(caller, session_id, request_id)
        with failures_of("runner"):
            call = self._runner.stub.ReadFile(
                runner_pb.ReadFileRequest(request=request, workspace_made=made),
                metadata=metadata,
                timeout=_READ_SECONDS,
            )
            try:
                async for piece in call:
                    yield piece.response
            finally:
                call.cancel()

    async def write(
        self, caller: Caller, session_id: str, request_id: str, request: pb.WriteFileRequest
    ) -> pb.WriteFileResponse:
        """Write a file."""
        async with self._writing(caller, session_id, request_id) as (metadata, made):
            answer = await self._runner.stub.WriteFile(
                runner_pb.WriteFileRequest(request=request, workspace_made=made),
                metadata=metadata,
                timeout=_SECONDS,
            )
        return answer.response

    async def delete(
        self, caller: Caller, session_id: str, request_id: str, request: pb.DeleteFileRequest
    ) -> pb.DeleteFileResponse:
        """Delete a file or folder."""
        async with self._writing(caller, session_id, request_id) as (metadata, made):
            await self._runner.stub.DeleteFile(
                runner_pb.DeleteFileRequest(request=request, workspace_made=made),
                metadata=metadata,
                timeout=_SECONDS,
            )
        return pb.DeleteFileResponse()

    async def diff(
        self, caller: Caller, session_id: str, request_id: str, request: pb.DiffWorkspaceRequest
    ) -> pb.DiffWorkspaceResponse:
        """Return what changed since a turn began."""
        metadata, made = await self._seen(caller, session_id, request_id)
        with failures_of("runner"):
            answer = await self._runner.stub.DiffWorkspace(
                runner_pb.DiffWorkspaceRequest(request=request, workspace_made=made),
                metadata=metadata,
                timeout=_SECONDS,
            )
        return answer.response
