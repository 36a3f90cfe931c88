"""Pieces of work for the ledger's database, and how a group of them is done in one transaction."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import structlog
from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

T = TypeVar("T")
Job = Callable[[Connection], T]

_log = structlog.get_logger("llm_proxy.ledger")

GROUP_LIMIT: Final = 128
"""Jobs of one transaction: enough to make the disk's share small, few enough that none waits long."""

IN_LOOP: Final = "in_loop"
"""In `connection.info`: whether the event loop waits for the job, which must raise if it may take long."""


class TakesLong(Exception):  # noqa: N818 - no error: it is done elsewhere
    """A job is none for the event loop."""


@dataclass(frozen=True)
class Waiting:
    """A job, and where its result goes: what it returned, or the Failure that it raised."""

    job: Job[Any]
    fsynced: bool
    done: asyncio.Future[Any]


def serve(connection: Connection, group: Sequence[Waiting]) -> list[Any]:
    """Do the jobs in one transaction and return their results; when that fails, each in one of its own."""
    try:
        return serve_together(connection, group)
    except Exception as error:  # noqa: BLE001 - one job's fault must not end the work for all others
        if len(group) > 1:
            return [serve(connection, [waiting])[0] for waiting in group]
        return [failure_of(error)]


def serve_together(connection: Connection, group: Sequence[Waiting]) -> list[Any]:
    """Do the jobs in one transaction and return their results; raise, with nothing done, what one raises."""
    with connection.begin():
        return [_result(waiting.job, connection) for waiting in group]


def _result(job: Job[Any], connection: Connection) -> Any:
    try:
        return job(connection)
    except Failure as failure:
        # What a job refuses concerns its caller alone, not the others of its group.
        return failure


def answer(group: Sequence[Waiting], results: Sequence[Any]) -> None:
    """Give the results to those who wait for them. In the event loop's thread."""
    for waiting, result in zip(group, results, strict=True):
        if waiting.done.done():
            continue
        if isinstance(result, Failure):
            waiting.done.set_exception(result)
        else:
            waiting.done.set_result(result)


def wanted(group: Sequence[Waiting]) -> list[Waiting]:
    """Return those that somebody waits for: a job whose caller gave up must not take effect."""
    return [waiting for waiting in group if not waiting.done.done()]


def failure_of(error: Exception) -> Failure:
    """Return what callers are told of an error of the database's."""
    if not isinstance(error, (SQLAlchemyError, sqlite3.Error, OSError, TimeoutError)):
        _log.error("fault in the ledger", kind=type(error).__name__)
        return Failure(errors_pb2.ERROR_REASON_INTERNAL, "The ledger could not write this call down.")
    cause = error.orig if isinstance(error, DBAPIError) else error
    if "disk is full" in str(cause):
        return Failure(
            errors_pb2.ERROR_REASON_DISK_FULL,
            "The disk that holds the ledger is full, so no call to a model can be paid for. Free some space.",
        )
    return unavailable()


def unavailable() -> Failure:
    """Return the failure of a database that does not answer."""
    return Failure(
        errors_pb2.ERROR_REASON_DATABASE_UNAVAILABLE,
        "The ledger's database does not answer, so no call to a model can be paid for. Try again.",
    )
