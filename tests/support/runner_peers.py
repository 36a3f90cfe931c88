"""The runner's peers, played over real sockets: llm-proxy's tokens and the session service's transcripts."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
from pointsman.errors.v1 import errors_pb2
from pointsman.llm.v1 import llm_service_pb2, llm_service_pb2_grpc
from pointsman.session.v1 import transcript_service_pb2 as ts
from pointsman.session.v1 import transcript_service_pb2_grpc
from servicekit.context import current_passport
from servicekit.errors import Failure
from servicekit.serving import Servicer


class TokenPeer(llm_service_pb2_grpc.LlmServiceServicer):
    """Gives out tokens and remembers them. `failure` is raised instead, when set."""

    def __init__(self) -> None:
        self.issued: list[llm_service_pb2.IssueSessionTokenRequest] = []
        self.revoked: list[llm_service_pb2.RevokeSessionTokenRequest] = []
        self.tokens: list[str] = []
        self.tenants: list[str] = []
        self.failure: Failure | None = None
        self.default_model = "test/model"

    async def IssueSessionToken(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        if self.failure is not None:
            raise self.failure
        self.issued.append(request)
        self.tenants.append(current_passport().tenant)
        self.tokens.append(f"pst_{uuid.uuid4().hex}")
        return llm_service_pb2.IssueSessionTokenResponse(token=self.tokens[-1])

    async def RevokeSessionToken(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        self.revoked.append(request)
        return llm_service_pb2.RevokeSessionTokenResponse()

    async def ResolveModel(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        return llm_service_pb2.ResolveModelResponse(model=request.model or self.default_model)

    def servicer(self) -> Servicer:
        return Servicer(
            add=llm_service_pb2_grpc.add_LlmServiceServicer_to_server,
            instance=self,
            descriptor=llm_service_pb2.DESCRIPTOR.services_by_name["LlmService"],
        )


class TranscriptPeer(transcript_service_pb2_grpc.TranscriptServiceServicer):
    """Keeps transcripts in memory, by tenant, session, transcript id and subpath."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str, str, str], list[ts.TranscriptEntry]] = {}
        self.epochs: list[int] = []
        self.failure: Failure | None = None
        self.room: int | None = None
        """Bytes that one call may add; None for any number."""

    def _key(self, key: ts.TranscriptKey) -> tuple[str, str, str, str]:
        return (current_passport().tenant, key.session, key.transcript_id, key.subpath)

    async def AppendEntries(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        if self.failure is not None:
            raise self.failure
        if self.room is not None and sum(len(entry.json) for entry in request.entries) > self.room:
            raise Failure(errors_pb2.ERROR_REASON_MESSAGE_TOO_LARGE, "There is no room for that.")
        kept = self.entries.setdefault(self._key(request.key), [])
        known = {entry.uuid for entry in kept if entry.uuid}
        kept += [entry for entry in request.entries if not entry.uuid or entry.uuid not in known]
        self.epochs.append(request.epoch)
        return ts.AppendEntriesResponse()

    async def LoadEntries(
        self, request: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[ts.LoadEntriesResponse]:
        if self.failure is not None:
            raise self.failure
        for entry in self.entries.get(self._key(request.key), []):
            yield ts.LoadEntriesResponse(entries=[entry])

    async def ListTranscripts(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        found = [
            ts.TranscriptInfo(
                key=ts.TranscriptKey(
                    session=session, project="-workspace", transcript_id=name, subpath=subpath
                )
            )
            for tenant, session, name, subpath in self.entries
            if (tenant, session) == (current_passport().tenant, request.session)
        ]
        return ts.ListTranscriptsResponse(transcripts=found)

    async def DeleteTranscript(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        wanted = self._key(request.key)
        for key in list(self.entries):
            if key == wanted or (not request.key.subpath and key[:3] == wanted[:3]):
                del self.entries[key]
        return ts.DeleteTranscriptResponse()

    def servicer(self) -> Servicer:
        return Servicer(
            add=transcript_service_pb2_grpc.add_TranscriptServiceServicer_to_server,
            instance=self,
            descriptor=ts.DESCRIPTOR.services_by_name["TranscriptService"],
        )
