"""The ledger's schema is made by versions, and is what the code expects, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from llm_proxy.ledger.database import Database, open_database
from llm_proxy.ledger.tables import metadata
from sqlalchemy import Connection, create_engine, text
from support.session_databases import Postgres, postgres


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    server: Postgres = request.getfixturevalue("server")
    return server.create_database().replace("postgresql://", "postgresql+asyncpg://")


async def differences(database: Database) -> list[Any]:
    """Return how the schema differs from the one that the code expects."""

    def compare(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(
            connection, opts={"version_table": "llm_schema_version", "compare_type": True}
        )
        return list(compare_metadata(context, metadata))

    return await database.run(compare)


async def version(database: Database) -> str:
    query = text("SELECT version_num FROM llm_schema_version")
    return await database.run(lambda connection: str(connection.scalar(query)))


async def test_from_nothing_and_again_it_is_what_the_code_expects(url: str) -> None:
    for _ in range(2):
        async with open_database(url) as database:
            assert await differences(database) == []
            assert await version(database) == "0002"


async def test_replicas_that_start_at_once_make_it_once(server: Postgres) -> None:
    url = server.create_database().replace("postgresql://", "postgresql+asyncpg://")

    async def start() -> list[Any]:
        async with open_database(url) as database:
            return await differences(database)

    assert await asyncio.gather(*(start() for _ in range(4))) == [[]] * 4


async def test_a_file_from_before_there_were_versions_keeps_what_is_in_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    before = create_engine(url)
    metadata.create_all(before)
    with before.begin() as connection:
        connection.execute(text("ALTER TABLE llm_calls DROP COLUMN estimated"))
        connection.execute(text("INSERT INTO llm_balances VALUES ('tenant:acme', 'total', 7, 0)"))
    before.dispose()
    async with open_database(url) as database:
        assert await version(database) == "0002"
        kept = await database.run(lambda c: c.scalar(text("SELECT spent FROM llm_balances")))
        assert await differences(database) == []
    assert kept == 7
