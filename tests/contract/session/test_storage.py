"""The database: schema, retention, and what happens when it goes away."""

from __future__ import annotations

import asyncio
import importlib
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pointsman.errors.v1 import errors_pb2
from servicekit.config import ConfigError
from servicekit.statement import Statement
from session import clock
from session.config import SessionConfig
from session.events.retention import Retention
from session.storage.database import Database, opened
from session.storage.migrations.upgrade import upgrade
from session.storage.tables import accounts, metadata, sessions
from support.session_databases import Postgres, postgres
from support.session_house import SessionHouse, failure_of, session_house


@pytest.fixture
def url(tmp_path: Path, database_url: str) -> str:
    places: dict[str, Any] = {"passport_keys": tmp_path, "passport_key": tmp_path}
    (tmp_path / "session").mkdir()
    return SessionConfig(data_dir=tmp_path, database_url=database_url, **places).database


async def differences(database: Database) -> list[Any]:
    """Return how the schema differs from the one that the code expects."""

    def compare(connection: sa.Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"version_table": "session_schema_version"})
        return list(compare_metadata(context, metadata))

    return await database.run(lambda tx: tx.run_sync(compare))


async def test_migrations_from_nothing_make_what_the_code_expects(url: str) -> None:
    async with opened(url) as database:
        await upgrade(database)
        assert await differences(database) == []
        await upgrade(database)


@pytest.mark.parametrize("version", ["0001", "0002", "0004"])
async def test_migrations_from_a_version_before_keep_what_is_there(url: str, version: str) -> None:
    async with opened(url) as database:
        await upgrade(database, version)
        assert await differences(database) != []
        row = {
            "id": "s",
            "tenant": "t",
            "account": "a",
            "title": b"kept",
            "preferred_model": "",
            "template": "",
        }
        rest = {"forked_from": "", "agent_state": b"", "usage": b""}
        await database.run(lambda tx: tx.execute(sa.insert(sessions).values(row | rest)))
        await database.run(lambda tx: tx.execute(sa.insert(accounts).values(tenant="t", account="a")))
        await upgrade(database)
        assert await differences(database) == []
        kept = (await database.run(lambda tx: tx.execute(sa.select(sessions)))).one()
        assert (kept.title, kept.workspace_changed) == (b"kept", 0)


async def test_what_a_turn_looks_up_is_found_however_many_turns_there_were(tmp_path: Path) -> None:
    def plans(connection: sa.Connection) -> dict[str, list[str]]:
        driver: Any = connection.connection.driver_connection
        found = {}
        for name in ("accounts", "claims", "events", "sessions", "turns"):
            module = importlib.import_module(f"session.storage.statements.{name}")
            for statement in vars(module).values():
                if isinstance(statement, Statement) and isinstance(statement.clause, sa.Select):
                    compiled: Any = statement.clause.compile(dialect=connection.dialect)
                    text, values = str(compiled), [0] * len(compiled.positiontup)
                    found[text] = [row[3] for row in driver.execute(f"EXPLAIN QUERY PLAN {text}", values)]
        return found

    async with opened(f"sqlite:///{tmp_path}/plans.db") as database:
        await upgrade(database)
        found = await database.run(lambda tx: tx.run_sync(plans))
    assert len(found) > 8
    newest_answers = next(plan for text, plan in found.items() if "turns_1.route" in text)
    searches = [step for step in newest_answers if step.startswith("SEARCH")]
    assert len(searches) == 2
    assert all("turns_by_answer (session_id=? AND route=? AND state=?" in step for step in searches)
    # All that may be gone through is what is not over yet.
    scans = [step for plan in found.values() for step in plan if step.startswith("SCAN ")]
    assert scans == ["SCAN turns USING COVERING INDEX turns_active", "SCAN anon_1"]


async def test_replicas_that_start_at_once_wait_for_one_another(tmp_path: Path, database_url: str) -> None:
    replicas = 3 if database_url else 1
    async with session_house(tmp_path, database_url, replicas=0) as house:
        await asyncio.gather(*(house.start() for _ in range(replicas)))
        turn = await house.client(replica=-1).enqueue("say hi")
        assert (await house.client().finish(turn)).result == "hi"


async def test_a_second_service_on_the_same_file_is_refused(tmp_path: Path) -> None:
    async with session_house(tmp_path) as house:
        with pytest.raises(ConfigError, match="in use by another session service"):
            await house.start()


async def test_events_that_are_not_kept_any_more_are_told_as_such(tmp_path: Path, database_url: str) -> None:
    async with session_house(tmp_path, database_url) as house:
        client = house.client()
        old = await client.enqueue("work")
        await client.finish(old)
        first_after = (await client.session(old.session)).last_sequence + 1
        cutoff = clock.now()
        await client.finish(await client.enqueue("say new", old.session))
        async with opened(house.config.database) as database:
            await Retention(database, timedelta(microseconds=clock.now() - cutoff)).forget()
        session = await client.session(old.session)
        assert session.first_sequence == first_after
        assert len(session.messages) == 4
        for read in (client.events(old.session, 3), _drained(client.watch(old.session, 3))):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await read
            assert caught.value.code() == grpc.StatusCode.OUT_OF_RANGE
            failure = failure_of(caught.value)
            assert failure.reason == errors_pb2.ERROR_REASON_CURSOR_EXPIRED
            assert failure.metadata["first_sequence"] == str(first_after)
        assert (await client.events(old.session))[0].sequence == first_after
        assert (await client.events(old.session, first_after - 1))[0].sequence == first_after


async def _drained(stream: Any) -> None:
    async for _ in stream:
        pass


async def test_a_database_that_goes_away_is_told_within_five_seconds_and_comes_back(tmp_path: Path) -> None:
    with postgres() as server:
        async with session_house(tmp_path, server.create_database()) as house:
            # Another program's burst only makes a try worse, so one good one says how it is.
            for _ in range(3):
                told, served = await _outage(house, server)
                if told < 5 and served < 10:
                    return
    pytest.fail(f"told after {told:.1f} s, served {served:.1f} s after its return")


async def _outage(house: SessionHouse, server: Postgres) -> tuple[float, float]:
    """Stop the database in mid-turn: after how long that is told, and how long until all is well again."""
    client = house.client()
    turn = await client.enqueue("wait")
    async for event in client.watch(turn.session, turn=turn.name):
        if event.HasField("tool_use"):
            break
    server.stop()
    began = time.monotonic()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.enqueue("say hi")
    told = time.monotonic() - began
    assert failure_of(caught.value).reason == errors_pb2.ERROR_REASON_DATABASE_UNAVAILABLE
    # What happens meanwhile is kept until it is back.
    house.runner.turns[turn.name].released.set()
    server.start()
    began = time.monotonic()
    assert (await _again(client.finish, turn)).result == "waited"
    served = time.monotonic() - began
    assert [event.sequence for event in await client.events(turn.session)] == [1, 2, 3, 4, 5]
    return told, served


async def _again(call: Any, *arguments: Any) -> Any:
    """Call until it is answered, as a client does that was told to try again."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await call(*arguments)
            except grpc.aio.AioRpcError as error:
                assert error.code() == grpc.StatusCode.UNAVAILABLE
                await asyncio.sleep(0.1)


def test_the_server_of_the_tests_is_real(postgres_server: Postgres) -> None:
    assert postgres_server.sql("SHOW server_version").startswith("1")
