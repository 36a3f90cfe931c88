"""Workspaces: the session service says whose they are, the runner that holds them does the work."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from pointsman.runner.v1 import runner_service_pb2 as runner_pb
from pointsman.session.v1 import workspace_service_pb2 as pb

from session.caller import Caller
from session.peers import Party, Runner, failures_of
from session.storage.database import Database
from session.storage.rows import SessionRow
from session.storage.statements import sessions
from session.storage.transaction import Transaction

_SECONDS: Final = 15.0
# A file of any size over a slow line.
_READ_SECONDS: Final = 600.0


class Files:
    """Forwards calls on the files of a session that the caller sees."""

    def __init__(self, database: Database, runner: Runner) -> None:
        self._database = database
        self._runner = runner

    async def _party(
        self, caller: Caller, session_id: str, request_id: str, *, writes: bool = False
    ) -> Party:
        async def work(tx: Transaction) -> SessionRow:
            session = await sessions.get(tx, caller, session_id)
            if writes and not session.workspace_changed:
                # Noted before it happens: a snapshot too many does no harm, one too few does.
                await sessions.update(tx, session_id, workspace_changed=1)
            return session

        session = await self._database.run(work)
        return Party(session.tenant, session.account, caller.principal, request_id)

    async def list(
        self, caller: Caller, session_id: str, request_id: str, request: pb.ListFilesRequest
    ) -> pb.ListFilesResponse:
        """Return what lies in a folder."""
        metadata = self._runner.metadata(await self._party(caller, session_id, request_id))
        with failures_of("runner"):
            answer = await self._runner.stub.ListFiles(
                runner_pb.ListFilesRequest(request=request), metadata=metadata, timeout=_SECONDS
            )
        return answer.response

    async def read(
        self, caller: Caller, session_id: str, request_id: str, request: pb.ReadFileRequest
    ) -> AsyncIterator[pb.ReadFileResponse]:
        """Yield a file's pieces."""
        metadata = self._runner.metadata(await self._party(caller, session_id, request_id))
        with failures_of("runner"):
            call = self._runner.stub.ReadFile(
                runner_pb.ReadFileRequest(request=request), metadata=metadata, timeout=_READ_SECONDS
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
        metadata = self._runner.metadata(await self._party(caller, session_id, request_id, writes=True))
        with failures_of("runner"):
            answer = await self._runner.stub.WriteFile(
                runner_pb.WriteFileRequest(request=request), metadata=metadata, timeout=_SECONDS
            )
        return answer.response

    async def delete(
        self, caller: Caller, session_id: str, request_id: str, request: pb.DeleteFileRequest
    ) -> pb.DeleteFileResponse:
        """Delete a file or folder."""
        metadata = self._runner.metadata(await self._party(caller, session_id, request_id, writes=True))
        with failures_of("runner"):
            await self._runner.stub.DeleteFile(
                runner_pb.DeleteFileRequest(request=request), metadata=metadata, timeout=_SECONDS
            )
        return pb.DeleteFileResponse()

    async def diff(
        self, caller: Caller, session_id: str, request_id: str, request: pb.DiffWorkspaceRequest
    ) -> pb.DiffWorkspaceResponse:
        """Return what changed since a turn began."""
        metadata = self._runner.metadata(await self._party(caller, session_id, request_id))
        with failures_of("runner"):
            answer = await self._runner.stub.DiffWorkspace(
                runner_pb.DiffWorkspaceRequest(request=request), metadata=metadata, timeout=_SECONDS
            )
        return answer.response
