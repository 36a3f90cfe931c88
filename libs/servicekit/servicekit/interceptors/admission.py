"""May this caller call this method: the passport, and the table of who may what."""

from __future__ import annotations

from collections.abc import Mapping

from pointsman.errors.v1 import errors_pb2

from servicekit.access import Access, check_scope, needed
from servicekit.errors import Failure
from servicekit.interceptors.incoming import Incoming
from servicekit.passport import PASSPORT_HEADER, Passport, PassportVerifier


def admit(incoming: Incoming, access: Mapping[str, Access], verifier: PassportVerifier) -> Passport | None:
    """Return the caller's passport, None for a service that is open to all.

    Raises Failure PASSPORT_INVALID without exactly one valid passport, SCOPE_MISSING when it does not allow
    the method.
    """
    row = needed(access, incoming.path)
    if row is Access.OPEN:
        return None
    passport = verifier.verify(_token(incoming))
    check_scope(row, passport, incoming.method)
    return passport


def _token(incoming: Incoming) -> str:
    tokens = incoming.values(PASSPORT_HEADER)
    if len(tokens) == 1:
        return tokens[0]
    came = "no passport" if not tokens else f"{len(tokens)} passports"
    raise Failure(
        errors_pb2.ERROR_REASON_PASSPORT_INVALID,
        f"The call came with {came}; exactly one is needed. Call through the edge, which adds it.",
    )
