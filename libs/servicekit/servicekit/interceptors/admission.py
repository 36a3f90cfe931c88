"""May this caller call this method: the passport, and the table of who may what."""

from __future__ import annotations

from collections.abc import Mapping

from pointsman.errors.v1 import errors_pb2

from servicekit.access import Access, check_scope, needed
from servicekit.context import Call
from servicekit.errors import Failure
from servicekit.interceptors.incoming import Incoming
from servicekit.passport import PASSPORT_HEADER, PassportVerifier


def admit(call: Call, incoming: Incoming, access: Mapping[str, Access], verifier: PassportVerifier) -> None:
    """Note the caller's passport in the call; a service that is open to all needs none.

    Raises Failure PASSPORT_INVALID without exactly one valid passport, SCOPE_MISSING when it does not allow
    the method; who was refused so is noted, too.
    """
    row = needed(access, incoming.path)
    if row is Access.OPEN:
        return
    call.passport = verifier.verify(_token(incoming))
    check_scope(row, call.passport, incoming.method)


def _token(incoming: Incoming) -> str:
    tokens = incoming.values(PASSPORT_HEADER)
    if len(tokens) == 1:
        return tokens[0]
    came = "no passport" if not tokens else f"{len(tokens)} passports"
    raise Failure(
        errors_pb2.ERROR_REASON_PASSPORT_INVALID,
        f"The call came with {came}; exactly one is needed. Call through the edge, which adds it.",
    )
