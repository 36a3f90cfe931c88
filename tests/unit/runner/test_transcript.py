"""The transcript's store, by the agent SDK's own conformance suite, over a real socket."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from claude_agent_sdk.testing import run_session_store_conformance
from pointsman.session.v1 import transcript_service_pb2_grpc
from runner.agent.transcript import TranscriptSlot, TranscriptStore
from servicekit.testing import passport_metadata, serve, test_keys
from support.runner_peers import TranscriptPeer

SESSION = "6f1a3b1e-0000-4000-8000-000000000001"


class Sessions:
    """A store of many sessions, as the suite wants one, made of stores of one session each."""

    def __init__(self, store_of: Callable[[str], TranscriptStore]) -> None:
        self._store_of = store_of

    def _store(self, key: Any) -> TranscriptStore:
        named = f"{key['project_key']}/{key['session_id']}"
        return self._store_of(str(uuid.uuid5(uuid.NAMESPACE_URL, named)))

    async def append(self, key: Any, entries: Any) -> None:
        await self._store(key).append(key, entries)

    async def load(self, key: Any) -> Any:
        return await self._store(key).load(key)

    async def delete(self, key: Any) -> None:
        await self._store(key).delete(key)

    async def list_subkeys(self, key: Any) -> list[str]:
        return await self._store(key).list_subkeys(key)


async def test_it_passes_the_sdks_conformance_suite(tmp_path: Path) -> None:
    keys = test_keys(tmp_path)
    peer = TranscriptPeer()
    async with serve(peer.servicer(), keys=keys) as session:
        stub = transcript_service_pb2_grpc.TranscriptServiceStub(session.channel)
        metadata = passport_metadata(keys.signer("runner"), scopes={"internal"})

        def fresh() -> Any:
            peer.entries.clear()
            return Sessions(lambda name: TranscriptStore(stub, name, lambda: metadata))

        # Listing is for a store of many sessions; ours has one.
        await run_session_store_conformance(
            fresh, skip_optional=frozenset({"list_sessions", "list_session_summaries"})
        )


async def test_what_was_written_before_the_session_was_known_is_the_sessions(tmp_path: Path) -> None:
    keys = test_keys(tmp_path)
    peer = TranscriptPeer()
    async with serve(peer.servicer(), keys=keys) as session:
        stub = transcript_service_pb2_grpc.TranscriptServiceStub(session.channel)
        metadata = passport_metadata(keys.signer("runner"), scopes={"internal"})
        slot = TranscriptSlot()
        key: Any = {"project_key": "-workspace", "session_id": "another"}
        mode: Any = {"type": "mode", "sessionId": "another"}
        await slot.append(key, [mode])
        assert peer.entries == {}
        await slot.bind(TranscriptStore(stub, SESSION, lambda: metadata, lambda: 7))
        await slot.append(key, [{"type": "user", "uuid": "u"}])
        ((where, entries),) = peer.entries.items()
        assert where == ("acme", f"sessions/{SESSION}", SESSION, "")
        assert [entry.json for entry in entries] == [
            b'{"type":"mode","sessionId":"%s"}' % SESSION.encode(),
            b'{"type":"user","uuid":"u"}',
        ]
        assert peer.epochs == [7, 7]
