"""What a database's error means for the caller."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure
from sqlalchemy.exc import DBAPIError, IntegrityError


class Verdict(Enum):
    """What to do about a database's error."""

    TRY_AGAIN = "lost a race or a connection; nothing is committed, or the work notices that it is"
    DISK_FULL = "no room"
    UNAVAILABLE = "not there"
    UNSTORABLE = "a text that the database cannot hold"
    OURS = "a fault of ours, or a constraint that did its work"


# https://www.postgresql.org/docs/15/errcodes-appendix.html
_STATES: Final = {
    "40001": Verdict.TRY_AGAIN,
    "40P01": Verdict.TRY_AGAIN,
    "53100": Verdict.DISK_FULL,
    "22021": Verdict.UNSTORABLE,
}
_UNAVAILABLE_CLASSES: Final = ("08", "53", "57", "58")


def verdict_on(error: BaseException) -> Verdict:
    """Judge an error of SQLAlchemy, of the driver or of the connection."""
    if isinstance(error, IntegrityError):
        return Verdict.OURS
    if not isinstance(error, DBAPIError):
        return Verdict.UNAVAILABLE
    state = getattr(error.orig, "sqlstate", None) or ""
    if state in _STATES:
        return _STATES[state]
    if state[:2] in _UNAVAILABLE_CLASSES:
        return Verdict.UNAVAILABLE
    if error.connection_invalidated:
        return Verdict.TRY_AGAIN
    return _by_text(str(error.orig).lower())


def _by_text(text: str) -> Verdict:
    """Judge what has no code: SQLite's errors, by its own fixed words."""
    if "disk is full" in text:
        return Verdict.DISK_FULL
    if any(words in text for words in ("disk i/o error", "unable to open", "is locked", "connection")):
        return Verdict.UNAVAILABLE
    return Verdict.OURS


def failure_of(verdict: Verdict) -> Failure:
    """Return what a caller is told."""
    if verdict is Verdict.DISK_FULL:
        return Failure(
            errors_pb2.ERROR_REASON_DISK_FULL,
            "The disk of the session service is full. Nothing that was acknowledged is lost; it goes on by "
            "itself once there is room.",
            retry_after=timedelta(seconds=30),
        )
    if verdict is Verdict.UNSTORABLE:
        return Failure(
            errors_pb2.ERROR_REASON_INVALID_FIELD,
            "A text of the request has a character that cannot be kept.",
        )
    return Failure(
        errors_pb2.ERROR_REASON_DATABASE_UNAVAILABLE,
        "The session service cannot reach its database. Try again in a moment.",
        retry_after=timedelta(seconds=1),
    )
