"""Filling new sessions: whoever was overtaken by a repeated request changes nothing any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pointsman.runner.v1 import runner_service_pb2
from servicekit.channels import service_channel
from servicekit.errors import Failure
from servicekit.testing import serve, test_keys
from session import clock, names
from session.config import SessionConfig
from session.peers import Party, Runner
from session.sessions.filling import Filler, to_be_filled
from session.storage.database import Database, opened
from session.storage.migrations.upgrade import upgrade
from session.storage.rows import SessionRow
from session.storage.statements import purge, sessions
from session.storage.tables import Phase
from session.storage.transaction import Transaction
from support.session_runner import ScriptedRunner

PARTY = Party("acme", "default", "tester", "request")
Finish = Callable[[Transaction, SessionRow], Awaitable[dict[str, object]]]


class FrozenAfterSnapshot(ScriptedRunner):
    """A runner whose first answer comes back when somebody else was faster."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], Awaitable[None]] | None = None

    async def CreateSnapshot(
        self, request: runner_service_pb2.CreateSnapshotRequest, context: Any
    ) -> runner_service_pb2.CreateSnapshotResponse:
        answer = await super().CreateSnapshot(request, context)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return answer


@dataclass
class Place:
    """A session that is to be filled, and what fills it."""

    database: Database
    runner: FrozenAfterSnapshot
    filler: Filler
    session: SessionRow
    opened_by: list[str]

    def finish(self, who: str) -> Finish:
        async def note(_tx: Transaction, _session: SessionRow) -> dict[str, object]:
            self.opened_by.append(who)
            return {"title": who.encode()}

        return note

    async def expire_hold(self) -> None:
        """What time does to a hold."""
        row = await self.now()
        assert row.hold_until > clock.now()
        await self.database.run(lambda tx: sessions.update(tx, row.id, hold_until=1))

    async def now(self) -> SessionRow:
        return await self.database.run(lambda tx: sessions.any_phase(tx, self.session.id))

    async def overtake(self) -> None:
        await self.expire_hold()
        await self.filler.fill(PARTY, self.session, finish=self.finish("second"))


@pytest.fixture
async def place(tmp_path: Path, database_url: str) -> AsyncIterator[Place]:
    places: dict[str, Any] = {"passport_keys": tmp_path, "passport_key": tmp_path}
    (tmp_path / "session").mkdir()
    url = SessionConfig(data_dir=tmp_path, database_url=database_url, **places).database
    keys, runner = test_keys(tmp_path), FrozenAfterSnapshot()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(opened(url))
        await upgrade(database)
        served = await stack.enter_async_context(serve(runner.as_servicer(), keys=keys, service="runner"))
        signer = keys.signer("session")
        channel = await stack.enter_async_context(service_channel(served.server.address, signer=signer))
        source, session_id = names.new_id(), names.new_id()
        runner.snapshots[source] = "sessions/somebody's"
        row = {"id": session_id, "tenant": "acme", "account": "default", "create_time": clock.now()}
        columns = row | {"last_activity_time": clock.now(), "from_snapshot_id": source} | to_be_filled()
        await database.run(lambda tx: sessions.insert(tx, **columns))
        session = await database.run(lambda tx: sessions.any_phase(tx, session_id))
        yield Place(database, runner, Filler(database, Runner(channel, signer)), session, [])


async def test_who_was_overtaken_before_the_files_does_not_replace_them(place: Place) -> None:
    place.runner.meanwhile = place.overtake
    await place.filler.fill(PARTY, place.session, finish=place.finish("first"))
    assert place.opened_by == ["second"]
    assert len(place.runner.restored) == 1
    assert (await place.now()).title == b"second"


async def test_who_was_overtaken_after_the_files_does_not_open_the_session_again(place: Place) -> None:
    await place.filler.fill(PARTY, place.session, prepare=place.overtake, finish=place.finish("first"))
    assert place.opened_by == ["second"]
    row = await place.now()
    assert (row.phase, row.hold_until, row.snapshot_id) == (Phase.OPEN, 0, row.id)


async def test_a_failure_gives_the_session_to_the_next_try_at_once(place: Place) -> None:
    async def lose_snapshot() -> None:
        place.runner.snapshots.clear()

    place.runner.meanwhile = lose_snapshot
    with pytest.raises(Failure, match="SNAPSHOT_NOT_FOUND"):
        await place.filler.fill(PARTY, place.session)
    assert ((await place.now()).phase, (await place.now()).hold_until) == (Phase.FILLING, 0)
    place.runner.snapshots[place.session.from_snapshot_id] = "sessions/somebody's"
    await place.filler.fill(PARTY, place.session)
    assert (await place.now()).phase == Phase.OPEN


async def test_a_caller_that_goes_away_gives_the_session_to_the_next_try_at_once(place: Place) -> None:
    under_way = asyncio.Event()

    async def for_ever() -> None:
        under_way.set()
        await asyncio.Event().wait()

    call = asyncio.create_task(place.filler.fill(PARTY, place.session, prepare=for_ever))
    await under_way.wait()
    call.cancel()
    await asyncio.wait({call}, timeout=60)
    assert call.cancelled()
    await place.filler.fill(PARTY, place.session, finish=place.finish("second"))
    assert place.opened_by == ["second"]


async def test_a_session_that_is_being_filled_is_not_removed_as_one_that_never_was(place: Place) -> None:
    late = clock.now() + 1_000_000
    await place.database.run(lambda tx: sessions.update(tx, place.session.id, expire_time=late))

    async def purged() -> None:
        await place.database.run(lambda tx: purge.expire(tx, late + 1))

    await place.filler.fill(PARTY, place.session, prepare=purged)
    assert (await place.now()).phase == Phase.OPEN
