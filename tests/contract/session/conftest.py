"""The contract suite runs on both databases; on PostgreSQL with two replicas, and callers at both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from support.session_databases import Postgres, postgres
from support.session_house import SessionHouse, session_house


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        return ""
    server: Postgres = request.getfixturevalue("postgres_server")
    return server.create_database()


@pytest.fixture
async def house(tmp_path: Path, database_url: str) -> AsyncIterator[SessionHouse]:
    replicas = 2 if database_url else 1
    async with session_house(tmp_path, database_url, replicas, keep_alive_seconds=0.3) as running:
        yield running


@pytest.fixture
async def one(tmp_path: Path, database_url: str) -> AsyncIterator[SessionHouse]:
    """A single replica."""
    async with session_house(tmp_path, database_url, keep_alive_seconds=0.3) as running:
        yield running
