"""The current call: who makes it, under which id, and what its log line will say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

from pointsman.errors.v1 import errors_pb2

from servicekit.errors import Failure
from servicekit.passport import INTERNAL_SCOPE, Passport

DEFAULT_ACCOUNT: Final = "default"
_ACCOUNT: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass
class Call:
    """What is known of one call while it is served."""

    method: str
    request_id: str
    passport: Passport | None = None
    request: Any = None
    """The message, once it is read; None for a stream of them."""
    log_fields: dict[str, str] = field(default_factory=dict)
    answer_headers: dict[str, str] = field(default_factory=dict)

    @property
    def from_outside(self) -> bool:
        """Whether somebody with a passport makes it who is none of our services."""
        return self.passport is not None and INTERNAL_SCOPE not in self.passport.scopes


_CURRENT: ContextVar[Call] = ContextVar("pointsman_call")


def begin(call: Call) -> None:
    """Make this the current call of the task, until the task ends."""
    _CURRENT.set(call)


def current_call() -> Call | None:
    """Return the current call, None outside of one."""
    return _CURRENT.get(None)


def current_passport() -> Passport:
    """Return the caller's passport. LookupError outside of a call, or in one that needs no passport."""
    passport = _CURRENT.get().passport
    if passport is None:
        raise LookupError("this method is open: its callers have no passport")
    return passport


def current_request_id() -> str:
    """Return the id of the current call, the caller's own if it sent one. LookupError outside of a call."""
    return _CURRENT.get().request_id


def log_fields(**fields: str) -> None:
    """Add fields to the one log line of the current call; nothing happens outside of a call."""
    call = _CURRENT.get(None)
    if call is not None:
        call.log_fields.update(fields)


def answer_header(name: str, value: str) -> None:
    """Send a header with the answer of the current call; to be said before the first message goes out."""
    call = _CURRENT.get(None)
    if call is not None:
        call.answer_headers[name] = value


def account_of(requested: str) -> str:
    """Return the account that this call acts on, in lower case, and put it in the call's log line.

    It is the account the credential is pinned to; else the requested one; else `default`. Raises Failure
    ACCOUNT_PINNED when another than the pinned one is requested, INVALID_FIELD for a name that is none.
    """
    wanted = requested.lower()
    pinned = current_passport().account
    if wanted and not _ACCOUNT.fullmatch(wanted):
        rule = "must be 1 to 63 letters, digits, '.', '_' or '-', beginning with a letter or digit"
        raise Failure(errors_pb2.ERROR_REASON_INVALID_FIELD, f"account: {rule}", fields=[("account", rule)])
    if pinned is not None and wanted not in ("", pinned.lower()):
        raise Failure(
            errors_pb2.ERROR_REASON_ACCOUNT_PINNED,
            f"This credential is pinned to another account than {wanted!r}. Leave the account out of the "
            "request, or use a credential of that account.",
        )
    account = (pinned or wanted or DEFAULT_ACCOUNT).lower()
    log_fields(account=account)
    return account


@contextmanager
def acting_as(passport: Passport, request_id: str = "background", method: str = "") -> Iterator[Call]:
    """Run code as if in a call of this passport: background work on a caller's behalf, and tests."""
    call = Call(method=method, request_id=request_id, passport=passport)
    token = _CURRENT.set(call)
    try:
        yield call
    finally:
        _CURRENT.reset(token)
