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
        if not await self.identify(call, incoming):
            call.passport = self._verifier.verify(_only(incoming.values(PASSPORT_HEADER)))
        assert call.passport is not None  # noqa: S101 - noted by one or the other
        check_scope(row, call.passport, incoming.method)

    async def identify(self, call: Call, incoming: Incoming) -> bool:
        """Note who calls by their credential, where one is needed and may come; say whether that was so.

        Raises Failure. Also for a method that does not exist, in a service that does: its caller is counted
        and refused as any other.
        """
        takes_one = self.needed(incoming) not in (None, Access.OPEN, Access.INTERNAL)
        if self._credentials is None or not takes_one or incoming.values(PASSPORT_HEADER):
            return False
        call.passport = await self._credentials.identify(call, incoming)
        return True


def _only(tokens: Sequence[str]) -> str:
    if len(tokens) == 1:
        return tokens[0]
    came = "no passport" if not tokens else f"{len(tokens)} passports"
    raise Failure(
        errors_pb2.ERROR_REASON_PASSPORT_INVALID,
        f"The call came with {came}; exactly one is needed. Call through the edge, which adds it.",
    )
