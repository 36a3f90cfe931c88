"""May this caller call this method: the passport, and the table of who may what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from pointsman.errors.v1 import errors_pb2

from servicekit.access import Access, check_scope, needed
from servicekit.context import Call
from servicekit.errors import Failure
from servicekit.interceptors.incoming import Incoming
from servicekit.passport import PASSPORT_HEADER, Passport, PassportVerifier


class Credentials(Protocol):
    """Knows callers by their credential: what the service that gives out passports has."""

    async def identify(self, call: Call, incoming: Incoming) -> Passport:
        """Return what the caller's passport would say. Raises a Failure for a credential that is not good."""
        ...


class Admission:
    """Admits calls to the methods of one server.

    With `credentials`, a call may bring a credential where it brings no passport.
    """

    def __init__(
        self, access: Mapping[str, Access], verifier: PassportVerifier, credentials: Credentials | None
    ) -> None:
        self._access = access
        self._verifier = verifier
        self._credentials = credentials

    def needed(self, incoming: Incoming) -> Access | None:
        """Return what it takes to make this call."""
        return needed(self._access, incoming.path)

    async def admit(self, call: Call, incoming: Incoming) -> None:
        """Note the caller's passport in the call; a service that is open to all needs none.

        Raises Failure PASSPORT_INVALID without exactly one valid passport, SCOPE_MISSING when it does not
        allow the method, and what is wrong with a credential; who was refused so is noted, too.
        """
        row = self.needed(incoming)
        if row is Access.OPEN:
            return
        tokens = incoming.values(PASSPORT_HEADER)
        if self._credentials is not None and not tokens and row is not Access.INTERNAL:
            call.passport = await self._credentials.identify(call, incoming)
        else:
            call.passport = self._verifier.verify(_only(tokens))
        check_scope(row, call.passport, incoming.method)


def _only(tokens: Sequence[str]) -> str:
    if len(tokens) == 1:
        return tokens[0]
    came = "no passport" if not tokens else f"{len(tokens)} passports"
    raise Failure(
        errors_pb2.ERROR_REASON_PASSPORT_INVALID,
        f"The call came with {came}; exactly one is needed. Call through the edge, which adds it.",
    )
