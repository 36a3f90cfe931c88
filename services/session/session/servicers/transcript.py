"""TranscriptService."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from pointsman.session.v1 import transcript_service_pb2 as pb
from pointsman.session.v1 import transcript_service_pb2_grpc
from servicekit.context import current_passport, log_fields

from session import names
from session.caller import Caller
from session.sessions.transcripts import Transcripts
from session.storage.statements.transcripts import Entry, Key


class TranscriptServicer(transcript_service_pb2_grpc.TranscriptServiceServicer):
    """Keeps the agent's transcripts."""

    def __init__(self, transcripts: Transcripts) -> None:
        self._transcripts = transcripts

    async def AppendEntries(
        self, request: pb.AppendEntriesRequest, _context: Any
    ) -> pb.AppendEntriesResponse:
        """Add lines."""
        entries = [Entry(entry.uuid, entry.json) for entry in request.entries]
        await self._transcripts.append(_caller(), _key(request.key), entries, request.epoch)
        return pb.AppendEntriesResponse()

    async def LoadEntries(
        self, request: pb.LoadEntriesRequest, _context: Any
    ) -> AsyncIterator[pb.LoadEntriesResponse]:
        """Stream all lines."""
        async for piece in self._transcripts.load(_caller(), _key(request.key)):
            entries = [pb.TranscriptEntry(uuid=entry.uuid, json=entry.line) for entry in piece]
            yield pb.LoadEntriesResponse(entries=entries)

    async def ListTranscripts(
        self, request: pb.ListTranscriptsRequest, _context: Any
    ) -> pb.ListTranscriptsResponse:
        """Return a session's transcripts."""
        session_id = names.session_id_of(request.session, "session")
        log_fields(session=request.session)
        found = await self._transcripts.keys(_caller(), session_id, request.project)
        infos = [
            pb.TranscriptInfo(
                key=pb.TranscriptKey(
                    session=request.session,
                    project=key.project,
                    transcript_id=key.transcript_id,
                    subpath=key.subpath,
                ),
                update_time_ms=time // 1000,
            )
            for key, time in found
        ]
        return pb.ListTranscriptsResponse(transcripts=infos)

    async def DeleteTranscript(
        self, request: pb.DeleteTranscriptRequest, _context: Any
    ) -> pb.DeleteTranscriptResponse:
        """Delete a transcript."""
        await self._transcripts.delete(_caller(), _key(request.key))
        return pb.DeleteTranscriptResponse()


def _caller() -> Caller:
    return Caller.of(current_passport())


def _key(key: pb.TranscriptKey) -> Key:
    log_fields(session=key.session)
    session_id = names.session_id_of(key.session, "key.session")
    return Key(session_id, key.project, key.transcript_id, key.subpath)
