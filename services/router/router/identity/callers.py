"""Who calls, asked with each call: by the edge for all services, by the router for its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter
from pointsman.errors.v1 import errors_pb2
from pointsman.router.v1 import audit_service_pb2
from servicekit.audit import AuditTrail
from servicekit.context import Call
from servicekit.errors import Failure
from servicekit.interceptors.incoming import Incoming
from servicekit.passport import Passport

from router.admission.admission import Admission
from router.identity.bearer import CREDENTIAL_HEADERS, bearer_of
from router.identity.identity import Identified, Identity

_CREDENTIALS: Final = frozenset(
    {
        errors_pb2.ERROR_REASON_CREDENTIAL_MISSING,
        errors_pb2.ERROR_REASON_CREDENTIAL_INVALID,
        errors_pb2.ERROR_REASON_CREDENTIAL_EXPIRED,
        errors_pb2.ERROR_REASON_CREDENTIAL_REVOKED,
        errors_pb2.ERROR_REASON_SCOPE_MISSING,
    }
)
# Strangers must not be able to fill the disk.
_NOTED_REFUSALS: Final = RateLimitItemPerMinute(600)


@dataclass(frozen=True)
class Asked:
    """A call from outside: what tells whose it is, and what is noted when it is refused."""

    headers: Mapping[str, str]
    """By their names in lower case; one that came twice has both values, with a comma between."""
    path: str
    """With its query."""
    method: str
    source: str
    request_id: str


class Callers:
    """Knows callers by their credential, and counts their calls."""

    def __init__(self, identity: Identity, admission: Admission, audit: AuditTrail) -> None:
        self._identity = identity
        self._admission = admission
        self._audit = audit
        self._refusals = MovingWindowRateLimiter(MemoryStorage())

    async def known(self, asked: Asked) -> Identified:
        """Return who calls, whose call is counted now.

        Raises Failure CREDENTIAL_…, SCOPE_MISSING or RATE_LIMITED; a refused credential is noted.
        """
        try:
            known = await self._identity.identify(bearer_of(asked.headers, asked.path))
            await self._admission.request(known.passport.tenant)
        except Failure as failure:
            await self._note(failure, asked)
            raise
        return known

    async def identify(self, call: Call, incoming: Incoming) -> Passport:
        """See servicekit's Credentials: the same for a call that the edge has not asked about."""
        headers = {name: ", ".join(incoming.values(name)) for name in CREDENTIAL_HEADERS}
        asked = Asked(headers, incoming.path, "POST", incoming.source, call.request_id)
        return (await self.known(asked)).passport

    async def _note(self, failure: Failure, asked: Asked) -> None:
        """Keep a refused credential in the audit log, unless there are more than anybody will read."""
        if failure.reason not in _CREDENTIALS or not await self._refusals.hit(_NOTED_REFUSALS):
            return
        entry = audit_service_pb2.AuditEntry(
            method=f"{asked.method} {asked.path.partition('?')[0]}"[:256],
            source_address=asked.source,
            code=failure.code.name,
            reason=failure.reason_name,
            request_id=asked.request_id[:128],
        )
        self._audit.add(entry)
