"""Transcripts: the SDK's own suite for stores, and the fence."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import grpc.aio
import pytest
from claude_agent_sdk import SessionKey
from claude_agent_sdk.testing import run_session_store_conformance
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import session_service_pb2, transcript_service_pb2
from session.storage.statements import transcripts
from support.session_house import Client, SessionHouse, failure_of

pb = transcript_service_pb2


class GrpcStore:
    """The SDK's store over our service, bound to one session, as the runner's is."""

    def __init__(self, client: Client, session: str) -> None:
        self._client = client
        self._session = session

    def _key(self, key: Any) -> pb.TranscriptKey:
        return pb.TranscriptKey(
            session=self._session,
            project=key["project_key"],
            transcript_id=key["session_id"],
            subpath=key.get("subpath", ""),
        )

    async def append(self, key: SessionKey, entries: list[Any]) -> None:
        lines = [
            pb.TranscriptEntry(uuid=entry.get("uuid", ""), json=json.dumps(entry).encode())
            for entry in entries
        ]
        request = pb.AppendEntriesRequest(key=self._key(key), entries=lines)
        await self._client.transcripts.AppendEntries(request, metadata=self._client.metadata, timeout=60)

    async def load(self, key: SessionKey) -> list[Any] | None:
        request = pb.LoadEntriesRequest(key=self._key(key))
        call = self._client.transcripts.LoadEntries(request, metadata=self._client.metadata, timeout=60)
        entries: list[Any] | None = None
        async for piece in call:
            entries = (entries or []) + [json.loads(entry.json) for entry in piece.entries]
        return entries

    async def _infos(self, project: str) -> list[pb.TranscriptInfo]:
        request = pb.ListTranscriptsRequest(session=self._session, project=project)
        answer = await self._client.transcripts.ListTranscripts(
            request, metadata=self._client.metadata, timeout=60
        )
        return list(answer.transcripts)

    async def list_sessions(self, project_key: str) -> list[Any]:
        return [
            {"session_id": info.key.transcript_id, "mtime": info.update_time_ms}
            for info in await self._infos(project_key)
            if not info.key.subpath
        ]

    async def delete(self, key: SessionKey) -> None:
        request = pb.DeleteTranscriptRequest(key=self._key(key))
        await self._client.transcripts.DeleteTranscript(request, metadata=self._client.metadata, timeout=60)

    async def list_subkeys(self, key: Any) -> list[str]:
        return [
            info.key.subpath
            for info in await self._infos(key["project_key"])
            if info.key.transcript_id == key["session_id"] and info.key.subpath
        ]


async def make_session(client: Client) -> str:
    answer = await client.sessions.CreateSession(
        session_service_pb2.CreateSessionRequest(), metadata=client.metadata, timeout=60
    )
    return answer.session.name


async def test_the_sdks_suite_for_stores_passes(house: SessionHouse) -> None:
    client = house.client()

    async def make_store() -> Any:
        return GrpcStore(client, await make_session(client))

    await run_session_store_conformance(make_store, skip_optional=frozenset({"list_session_summaries"}))


async def test_a_long_transcript_comes_back_whole_and_in_order(house: SessionHouse) -> None:
    client = house.client()
    store = GrpcStore(client, await make_session(client))
    key: SessionKey = {"project_key": "p", "session_id": "s"}
    entries = [{"uuid": str(uuid.uuid4()), "n": n, "text": "x" * 20_000} for n in range(450)]
    for start in range(0, 450, 50):
        await store.append(key, entries[start : start + 50])
    assert await store.load(key) == entries


async def test_entries_of_a_turn_that_was_taken_over_are_refused(house: SessionHouse) -> None:
    client = house.client()
    turn = await client.enqueue("wait")
    async for event in client.watch(turn.session, turn=turn.name):
        if event.HasField("tool_use"):
            break
    key = pb.TranscriptKey(session=turn.session, project="p", transcript_id="t")

    async def append(epoch: int) -> None:
        line = pb.TranscriptEntry(uuid=str(epoch), json=b"{}")
        request = pb.AppendEntriesRequest(key=key, entries=[line], epoch=epoch)
        await client.transcripts.AppendEntries(request, metadata=client.metadata, timeout=60)

    await append(1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await append(2)
    assert failure_of(caught.value).reason == errors_pb2.ERROR_REASON_LEASE_LOST
    house.runner.turns[turn.name].released.set()
    await client.finish(turn)
    # An agent writes its last lines while its turn ends.
    await append(1)
    await asyncio.gather(*(append(0) for _ in range(5)))


async def test_lines_of_a_megabyte_are_read_a_few_at_a_time_and_come_back_in_order(
    house: SessionHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = house.client()
    session = await make_session(client)
    store = GrpcStore(client, session)
    read = transcripts.read
    most = 0

    async def measured(*arguments: Any) -> Any:
        nonlocal most
        page = await read(*arguments)
        most = max(most, sum(len(entry.line) for _, entry in page))
        return page

    monkeypatch.setattr(transcripts, "read", measured)
    key: Any = {"project_key": "p", "session_id": "s"}
    for number in range(12):
        await store.append(key, [{"uuid": f"u{number}", "n": number, "x": "y" * 1_400_000}, {"n": number}])
    assert [entry["n"] for entry in await store.load(key) or []] == [n for n in range(12) for _ in (0, 1)]
    assert 0 < most < 7_000_000


async def test_a_session_keeps_so_many_bytes_of_transcripts_and_no_more(
    house: SessionHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("session.sessions.transcripts.SESSION_BYTES", 10_000)
    client = house.client()
    session = await make_session(client)
    store, other = GrpcStore(client, session), GrpcStore(client, await make_session(client))
    keys: list[Any] = [{"project_key": "p", "session_id": "s", "subpath": path} for path in ("", "sub")]
    for number in range(8):
        await store.append(keys[number % 2], [{"n": number, "x": "y" * 1_000}])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await store.append(keys[0], [{"x": "y" * 3_000}])
    failure = failure_of(caught.value)
    assert failure.reason == errors_pb2.ERROR_REASON_MESSAGE_TOO_LARGE
    assert "transcripts of a session" in failure.message
    await store.append(keys[0], [{"n": 8}])
    await other.append(keys[0], [{"x": "y" * 3_000}])
    await store.delete(keys[0])
    await store.append(keys[0], [{"x": "y" * 3_000}])
    assert len(await store.load(keys[0]) or []) == 1
