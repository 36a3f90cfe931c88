"""The agent's transcript, kept by the session service: an SDK session store over gRPC."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import grpc.aio
import structlog
from claude_agent_sdk import SessionKey, SessionStoreEntry
from claude_agent_sdk.types import SessionListSubkeysKey
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import transcript_service_pb2 as pb
from pointsman.session.v1 import transcript_service_pb2_grpc as rpc
from servicekit.channels import CallMetadata
from servicekit.errors import Failure

from runner.agent.long_lines import cut, entries_of, joined
from runner.agent.seed import PROJECT, Transcript, is_sub_agent

_log = structlog.get_logger("runner.transcript")

_APPEND_SECONDS: Final = 10.0
_LOAD_SECONDS: Final = 30.0
# A call holds 4 MiB at most; entries with images are the large ones.
_BATCH_BYTES: Final = 2 * 1024 * 1024
_BATCH_ENTRIES: Final = 1000
# Of sub-agents' transcripts that are given back at a resume, the newest first: they lie in memory inside.
# Such a transcript has some ten lines of a few KiB.
_SUB_AGENTS: Final = 50
_SUB_AGENTS_BYTES: Final = 32 * 1024 * 1024
# An agent that nobody has asked anything writes a handful of lines.
_EARLY: Final = 100


class TranscriptStore:
    """Reads and writes one session's transcript. Its transcript id is always the session's own.

    The agent's process may have been booted before it got its session, with an id of its own: entries are
    kept, and given back, under the session's. `metadata` makes the metadata of a call; `epoch` says which
    epoch the running turn has, 0 when none runs.
    """

    def __init__(
        self,
        stub: rpc.TranscriptServiceAsyncStub,
        session_id: str,
        metadata: Callable[[], CallMetadata],
        epoch: Callable[[], int] = lambda: 0,
        not_kept: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`not_kept` is told, in a sentence for a person, what of the conversation could not be kept."""
        self._not_kept = not_kept
        self._stub = stub
        self._session_id = session_id
        self._metadata = metadata
        self._epoch = epoch

    async def append(self, key: SessionKey, entries: list[SessionStoreEntry]) -> None:
        """Add entries, in order. The SDK tries three times, then gives the batch up.

        Of entries that the session has no room for, the long texts, documents and pictures are left out.
        """
        own = [self._own(entry) for entry in entries]
        try:
            await self._append(key, own)
        except Failure as failure:
            if failure.reason != errors_pb2.ERROR_REASON_MESSAGE_TOO_LARGE:
                raise
            _log.warning("transcript_cut", session=f"sessions/{self._session_id}", fault=failure.message)
            await self._append(key, [cut(entry) for entry in own])
            self._not_kept(
                f"{failure.message} Long texts, documents and pictures of this turn are left out of what the "
                "agent remembers. Start a new session for more."
            )

    async def _append(self, key: SessionKey, entries: list[dict[str, Any]]) -> None:
        kept = [piece for entry in entries for piece in _pieces(entry)]
        for batch in _batches(kept):
            request = pb.AppendEntriesRequest(
                key=self._key(key.get("subpath", "")), entries=batch, epoch=self._epoch()
            )
            # A session service that starts again is worth the wait: what is not written is forgotten.
            await _typed(
                self._stub.AppendEntries(
                    request, timeout=_APPEND_SECONDS, metadata=self._metadata(), wait_for_ready=True
                )
            )

    async def load(self, key: SessionKey) -> list[SessionStoreEntry] | None:
        """Return all entries, None when there are none."""
        lines = await self.lines(key.get("subpath", ""))
        return [json.loads(line) for line in lines] or None

    async def lines(self, subpath: str = "") -> list[bytes]:
        """Return a transcript's lines as they were written."""
        request = pb.LoadEntriesRequest(key=self._key(subpath))
        try:
            # A session service that starts again is worth the wait: without its transcript no agent starts.
            call = self._stub.LoadEntries(
                request, timeout=_LOAD_SECONDS, metadata=self._metadata(), wait_for_ready=True
            )
            kept = [entry.json async for piece in call for entry in piece.entries]
        except grpc.aio.AioRpcError as error:
            raise Failure.from_rpc_error(error, service="session") from error
        return joined(kept, self._session_id)

    async def transcript(self) -> Transcript:
        """Return all that an agent resumes from; no lines for a new conversation."""
        lines = await self.lines()
        if not lines:
            return Transcript()
        sub_agents: dict[str, list[bytes]] = {}
        left = _SUB_AGENTS_BYTES
        for subpath in await self._sub_agents():
            found = await self.lines(subpath)
            left -= sum(map(len, found))
            if left < 0:
                break
            sub_agents[subpath] = found
        return Transcript(lines, sub_agents)

    async def list_subkeys(self, key: SessionListSubkeysKey) -> list[str]:
        """Return the subpaths of sub-agents' transcripts."""
        return [found.key.subpath for found in await self._list() if found.key.subpath]

    async def _sub_agents(self) -> list[str]:
        newest = sorted(await self._list(), key=lambda found: found.update_time_ms, reverse=True)
        return [found.key.subpath for found in newest if is_sub_agent(found.key.subpath)][:_SUB_AGENTS]

    async def _list(self) -> list[pb.TranscriptInfo]:
        request = pb.ListTranscriptsRequest(session=f"sessions/{self._session_id}", project=PROJECT)
        answer = await _typed(
            self._stub.ListTranscripts(request, timeout=_LOAD_SECONDS, metadata=self._metadata())
        )
        return [found for found in answer.transcripts if found.key.transcript_id == self._session_id]

    async def delete(self, key: SessionKey) -> None:
        """Delete a transcript; without a subpath, with all below it."""
        request = pb.DeleteTranscriptRequest(key=self._key(key.get("subpath", "")))
        await _typed(self._stub.DeleteTranscript(request, timeout=_APPEND_SECONDS, metadata=self._metadata()))

    def _key(self, subpath: str) -> pb.TranscriptKey:
        return pb.TranscriptKey(
            session=f"sessions/{self._session_id}",
            project=PROJECT,
            transcript_id=self._session_id,
            subpath=subpath,
        )

    def _own(self, entry: SessionStoreEntry) -> dict[str, Any]:
        own: dict[str, Any] = dict(entry)
        if "sessionId" in own:
            own["sessionId"] = self._session_id
        return own


class TranscriptSlot:
    """Takes a transcript's place until it is known whose it is: what came before is given over then."""

    def __init__(self, store: TranscriptStore | None = None) -> None:
        self._store = store
        self._early: list[tuple[SessionKey, list[SessionStoreEntry]]] = []

    async def bind(self, store: TranscriptStore) -> None:
        """Say whose it is."""
        early, self._early, self._store = self._early, [], store
        for key, entries in early:
            await store.append(key, entries)

    async def append(self, key: SessionKey, entries: list[SessionStoreEntry]) -> None:
        """See TranscriptStore."""
        if self._store is not None:
            await self._store.append(key, entries)
        elif len(self._early) < _EARLY:
            self._early.append((key, entries))

    async def load(self, key: SessionKey) -> list[SessionStoreEntry] | None:
        """See TranscriptStore."""
        return None if self._store is None else await self._store.load(key)


def _pieces(entry: dict[str, Any]) -> Iterator[pb.TranscriptEntry]:
    raw = json.dumps(entry, separators=(",", ":")).encode()
    own_uuid = entry.get("uuid")
    return entries_of(raw, own_uuid if isinstance(own_uuid, str) else "")


def _batches(entries: list[pb.TranscriptEntry]) -> list[list[pb.TranscriptEntry]]:
    batches: list[list[pb.TranscriptEntry]] = []
    size = _BATCH_BYTES
    for entry in entries:
        if size + len(entry.json) > _BATCH_BYTES or len(batches[-1]) == _BATCH_ENTRIES:
            batches.append([])
            size = 0
        batches[-1].append(entry)
        size += len(entry.json)
    return batches


async def _typed(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise Failure.from_rpc_error(error, service="session") from error
