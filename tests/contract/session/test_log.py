"""The log's one writer goes on, whatever becomes of those who wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pointsman.session.v1 import event_pb2
from servicekit.background import background
from session.config import SessionConfig
from session.events.append import Append
from session.events.bus import Bus
from session.events.log import Log
from session.refusals import LeaseLost
from session.storage.database import Database, opened
from session.storage.migrations.upgrade import upgrade
from session.storage.statements import events, sessions, turns
from session.storage.tables import RUNNING
from session.storage.transaction import Transaction

TURN = "00000000-0000-0000-0000-000000000001"
SESSION = "00000000-0000-0000-0000-000000000002"


def an_append(epoch: int = 1) -> Append:
    event = event_pb2.Event(tool_result=event_pb2.ToolResult(content="x"))
    return Append(SESSION, TURN, epoch, [event])


class Published:
    """What the log told watchers."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.order: list[int | str] = []

    def piece(self, _session_id: str, told: event_pb2.Event) -> None:
        self.order.append(told.text_delta.text)

    def __call__(self, _session_id: str, told: Sequence[event_pb2.Event]) -> None:
        self.numbers += [event.sequence for event in told]
        self.order += [event.sequence for event in told]


@asynccontextmanager
async def a_log(tmp_path: Path, database_url: str) -> AsyncIterator[tuple[Log, Database, Published]]:
    places: dict[str, Any] = {"passport_keys": tmp_path, "passport_key": tmp_path}
    (tmp_path / "session").mkdir()
    url = SessionConfig(data_dir=tmp_path, database_url=database_url, **places).database
    async with opened(url) as database:
        await upgrade(database)
        await database.run(_fill)
        published = Published()
        log = Log(database, Bus(database, replica=1), published, published.piece)
        async with background(log.write()):
            yield log, database, published


async def _fill(tx: Transaction) -> None:
    await sessions.insert(tx, id=SESSION, tenant="t", account="a")
    texts: dict[str, Any] = dict.fromkeys(("principal", "model", "request_id"), "")
    blobs: dict[str, Any] = dict.fromkeys(("body_hash", "prompt", "context", "options"), b"")
    where = {"id": TURN, "session_id": SESSION, "tenant": "t", "account": "a"}
    await turns.insert(tx, **where, state=RUNNING, epoch=1, **texts, **blobs)


async def test_a_waiter_that_is_cancelled_stops_nobody_else(tmp_path: Path, database_url: str) -> None:
    async with a_log(tmp_path, database_url) as (log, _, published):
        waiting = [asyncio.create_task(log.append(an_append())) for _ in range(5)]
        await asyncio.sleep(0)
        for task in waiting[:4]:
            task.cancel()
        await waiting[4]
        assert [event.sequence for event in await log.append(an_append())] == [6]
        assert published.numbers == [1, 2, 3, 4, 5, 6]


async def test_an_old_epoch_writes_nothing(tmp_path: Path, database_url: str) -> None:
    async with a_log(tmp_path, database_url) as (log, database, published):
        for epoch in (0, 2):
            with pytest.raises(LeaseLost):
                await log.append(an_append(epoch))
        await log.append(an_append())
        assert published.numbers == [1]
        found = await database.run(lambda tx: events.read(tx, SESSION, 0, 10))
        assert len(found) == 1


async def test_pieces_are_sent_where_they_stand_among_events_of_one_transaction(
    tmp_path: Path, database_url: str
) -> None:
    async with a_log(tmp_path, database_url) as (log, _, published):
        appends = [an_append() for _ in range(3)]
        for append, text in zip(appends, "abc", strict=True):
            append.pieces.append(event_pb2.Event(text_delta=event_pb2.TextDelta(text=text)))
            await log.put(append)
        await asyncio.gather(*(append.written() for append in appends))
        assert published.order == [1, "a", 2, "b", 3, "c"]


async def test_a_commit_whose_answer_was_lost_is_not_written_twice(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_log(tmp_path, database_url) as (log, database, published):
        run = database.run

        async def lose_the_answer(work: Any) -> Any:
            monkeypatch.setattr(database, "run", run)
            await run(work)
            return await run(work)

        monkeypatch.setattr(database, "run", lose_the_answer)
        await log.append(an_append())
        await log.append(an_append())
        assert published.numbers == [1, 2]
        found = await database.run(lambda tx: events.read(tx, SESSION, 0, 10))
        assert [event.sequence for event in found] == [1, 2]


async def test_a_service_does_not_go_on_without_its_log() -> None:
    async def fails() -> None:
        raise RuntimeError("a fault")

    async def serve() -> None:
        async with background(fails()):
            await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="a fault"):
        async with asyncio.timeout(60):
            await asyncio.create_task(serve())
