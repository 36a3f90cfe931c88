"""Rows of a database. The query is the operator's; what callers say is bound to it, never pasted in."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, Literal
from uuid import UUID

import sqlalchemy as sa
import structlog
from pydantic import Field, SecretStr
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from router.context.provider import Occasion, ProviderSettings, unavailable

_log = structlog.get_logger("router.context")

_CONNECTIONS: Final = 4
# Steps of SQLite's machine between two looks at the clock; some microseconds.
_STEPS: Final = 1000
_DRIVERS: Final = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
}
# Rows in memory at once, beside those that are shown.
_PIECEMEAL: Final = {"max_row_buffer": 8}
_PARAMETERS: Final = ("tenant", "account", "prompt", "principal", "session")


class SqlSettings(ProviderSettings):
    """A provider of kind `sql`."""

    kind: Literal["sql"]
    url: SecretStr
    """A SQLAlchemy URL. Give it a user that may only read: this is the second lock, not the first."""
    query: str = Field(min_length=1)
    """One SELECT. `:tenant`, `:account`, `:prompt`, `:principal` and `:session` are bound to the call's."""
    max_rows: int = Field(default=100, gt=0, le=10_000)


class SqlProvider:
    """Runs the query in a transaction that can only read, and gives the rows as lines of JSON."""

    def __init__(self, settings: SqlSettings) -> None:
        self.settings = settings
        self._engine = _engine(settings)
        self._postgres = self._engine.dialect.name == "postgresql"
        self._statement = sa.text(self._bounded(settings))
        self._names = [name for name in _PARAMETERS if name in self._statement.compile().params]

    async def gather(self, occasion: Occasion) -> str:
        """Return one JSON object a line; empty when there are no rows."""
        values = {name: getattr(occasion, name) for name in self._names}
        try:
            async with self._engine.connect() as connection:
                rows = await self._rows(connection, values)
        except Exception as error:
            # Drivers have errors of their own, which come out bare while rows are read piece by piece.
            _log.warning("context query failed", provider=self.settings.name, cause=type(error).__name__)
            raise unavailable(self.settings.name, _why(error)) from error
        return "\n".join(_lines(rows, self.settings))

    async def close(self) -> None:
        """Close the connections."""
        await self._engine.dispose()

    def _bounded(self, settings: SqlSettings) -> str:
        query = settings.query.strip().rstrip(";")
        if not self._postgres:
            return query
        # A row of a gigabyte is cut in the database, not here.
        limit = f"LIMIT {settings.max_rows + 1}"
        return (
            f"SELECT left(row_to_json(pointsman_row)::text, {settings.max_bytes + 1}) AS row "  # noqa: S608 - the operator's
            f"FROM ({query}\n) AS pointsman_row {limit}"
        )

    async def _rows(self, connection: AsyncConnection, values: Mapping[str, str]) -> list[str]:
        """Read up to one row more than may be shown, each as JSON, and no more bytes than that takes."""
        if self._postgres:
            milliseconds = int(self.settings.deadline_seconds * 1000)
            await connection.execute(sa.text("SET TRANSACTION READ ONLY"))
            await connection.execute(sa.text(f"SET LOCAL statement_timeout = {milliseconds}"))
        if self._engine.dialect.name == "sqlite":
            await self._bound_sqlite(connection)
        rows: list[str] = []
        size = 0
        async with connection.stream(self._statement, values, execution_options=_PIECEMEAL) as stream:
            async for row in stream.mappings():
                rows.append(self._line(row))
                size += len(rows[-1])
                if len(rows) > self.settings.max_rows or size > self.settings.max_bytes:
                    # The rest stays in the database.
                    break
        return rows

    def _line(self, row: sa.RowMapping) -> str:
        # PostgreSQL has made it JSON and cut it already.
        return (
            str(row["row"]) if self._postgres else json.dumps(dict(row), default=_plain, ensure_ascii=False)
        )

    async def _bound_sqlite(self, connection: AsyncConnection) -> None:
        """Make this connection stop by itself: its thread cannot be cancelled from outside."""
        raw: Any = (await connection.get_raw_connection()).driver_connection
        ends = time.monotonic() + self.settings.deadline_seconds
        await raw.set_progress_handler(lambda: time.monotonic() > ends, _STEPS)
        # Longer texts and blobs are an error inside SQLite, before they take memory here.
        await asyncio.get_running_loop().run_in_executor(
            None, raw._conn.setlimit, sqlite3.SQLITE_LIMIT_LENGTH, 4 * self.settings.max_bytes
        )


def _engine(settings: SqlSettings) -> AsyncEngine:
    scheme, separator, rest = settings.url.get_secret_value().partition("://")
    url = sa.make_url(f"{_DRIVERS.get(scheme, scheme)}{separator}{rest}")
    seconds = settings.deadline_seconds
    if url.get_backend_name() == "postgresql":
        arguments = {"timeout": seconds, "command_timeout": seconds}
        return create_async_engine(
            url,
            pool_size=_CONNECTIONS,
            max_overflow=0,
            pool_timeout=seconds,
            connect_args=arguments,
            pool_pre_ping=True,
        )
    if url.get_backend_name() != "sqlite":
        return create_async_engine(url, pool_size=_CONNECTIONS, max_overflow=0, pool_timeout=seconds)
    # Opened for reading only; a file that is not there is an error and not a new file.
    read_only = url.set(database=f"file:{url.database}", query={"mode": "ro", "uri": "true"})
    engine = create_async_engine(
        read_only,
        pool_size=_CONNECTIONS,
        max_overflow=0,
        pool_timeout=seconds,
        # How long a file that somebody locked is waited for.
        connect_args={"timeout": seconds},
    )
    event.listen(engine.sync_engine, "connect", _query_only)
    return engine


def _query_only(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA query_only = ON").close()


def _lines(rows: list[str], settings: SqlSettings) -> Iterable[str]:
    yield from rows[: settings.max_rows]
    if len(rows) > settings.max_rows:
        yield f"[cut: there are more than {settings.max_rows} rows]"


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    return f"[{len(value)} bytes]" if isinstance(value, bytes) else str(value)


def _why(error: BaseException) -> str:
    """Say what went wrong without the database's words, which may quote rows and addresses."""
    text = str(getattr(error, "orig", error) or error).lower()
    if isinstance(error, TimeoutError) or "interrupted" in text or "timeout" in text:
        return "the query took too long"
    if "too big" in text:
        return "a value is larger than it may be"
    if "read" in text and "only" in text:
        return "the query tries to change something"
    if isinstance(error, OSError) or "connect" in text or "unable to open" in text:
        return "the database cannot be reached"
    return "the database refused the query"
