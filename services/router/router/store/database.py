"""The router's database: one SQLite file, or the PostgreSQL that all services share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from pointsman.errors.v1 import errors_pb2
from servicekit.durable import make_private_folder
from servicekit.errors import Failure
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

Result = TypeVar("Result")

# A caller hears of a lost database within 5 s.
_CONNECT_SECONDS: Final = 3.0
_STATEMENT_SECONDS: Final = 4.0
# Keys and audit entries are small and seldom; more connections would only wait inside PostgreSQL.
_POSTGRES_CONNECTIONS: Final = 4


class Database:
    """Runs transactions."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.postgres: bool = engine.dialect.name == "postgresql"

    async def run(self, work: Callable[[AsyncConnection], Awaitable[Result]]) -> Result:
        """Run `work` in one transaction and return what it returned, committed.

        Raises Failure DATABASE_UNAVAILABLE, or IntegrityError for a constraint that did its work.
        """
        # Shielded, so that a caller that goes away does not leave the one connection in mid-transaction.
        return await asyncio.shield(asyncio.ensure_future(self._run(work)))

    async def _run(self, work: Callable[[AsyncConnection], Awaitable[Result]]) -> Result:
        try:
            async with self.engine.begin() as connection:
                return await work(connection)
        except (DBAPIError, sa.exc.TimeoutError, OSError) as error:
            if isinstance(error, IntegrityError) or _is_ours(error):
                raise
            raise Failure(
                errors_pb2.ERROR_REASON_DATABASE_UNAVAILABLE,
                "The router's database cannot be used just now; try again.",
            ) from error


def _is_ours(error: Exception) -> bool:
    """Whether the database is well and the statement is not: wrong data, or wrong SQL."""
    state = getattr(getattr(error, "orig", None), "sqlstate", None) or ""
    return state[:2] in ("22", "42")


def database_url(configured: str, data_dir: Path) -> str:
    """Return the SQLAlchemy URL: the configured PostgreSQL, else a file of the router's own."""
    scheme, _, rest = configured.partition("://")
    if scheme.split("+")[0] in ("postgresql", "postgres"):
        return f"postgresql+asyncpg://{rest}"
    return f"sqlite+aiosqlite:///{data_dir / 'router' / 'router.db'}"


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    """Open the database at a SQLAlchemy URL, as it is."""
    engine = _engine(url)
    try:
        yield Database(engine)
    finally:
        await engine.dispose()


def _engine(url: str) -> AsyncEngine:
    if sa.make_url(url).get_backend_name() == "postgresql":
        return create_async_engine(
            url,
            pool_size=_POSTGRES_CONNECTIONS,
            max_overflow=0,
            pool_timeout=_CONNECT_SECONDS,
            pool_pre_ping=True,
            connect_args={"timeout": _CONNECT_SECONDS, "command_timeout": _STATEMENT_SECONDS},
        )
    make_private_folder(Path(sa.make_url(url).database or "").parent)
    # One connection for the file: SQLite has one writer anyway, and this library's version can lose a WAL
    # that two connections reset at once.
    engine = create_async_engine(url, pool_size=1, max_overflow=0, pool_timeout=_STATEMENT_SECONDS)
    event.listen(engine.sync_engine, "connect", _configure_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: Any) -> None:
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "busy_timeout = 4000"):
        connection.execute(f"PRAGMA {pragma}").close()
    # The driver would begin transactions late, and none around changes of the schema.
    connection.isolation_level = None


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
