"""`envoy.service.auth.v3.Authorization`: the edge asks it about every request."""

from __future__ import annotations

from typing import Any, Final

from envoy.service.auth.v3 import attribute_context_pb2, external_auth_pb2, external_auth_pb2_grpc
from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter
from pointsman.errors.v1 import errors_pb2
from pointsman.router.v1 import audit_service_pb2
from servicekit.audit import AuditTrail
from servicekit.context import log_fields
from servicekit.errors import Failure
from servicekit.passport import REQUEST_ID_HEADER, PassportSigner

from router.admission.admission import Admission
from router.identity.bearer import bearer_of
from router.identity.identity import Identity
from router.verdict import allowed, denied

# Doors without a lock: probes, and tools that only look at what there is to call.
_OPEN: Final = (
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1.ServerReflection/",
    "/grpc.reflection.v1alpha.ServerReflection/",
    "/pointsman.system.v1.SystemService/GetHealth",
)
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
_OPEN_REST: Final = frozenset({"/healthz"})


class AuthorizationServicer(external_auth_pb2_grpc.AuthorizationServicer):  # type: ignore[misc]
    """Checks credentials and gives out passports. Reachable for the edge only: its answer is a passport."""

    def __init__(
        self, identity: Identity, admission: Admission, signer: PassportSigner, audit: AuditTrail
    ) -> None:
        self._identity = identity
        self._admission = admission
        self._signer = signer
        self._audit = audit
        self._refusals = MovingWindowRateLimiter(MemoryStorage())

    async def Check(
        self, request: external_auth_pb2.CheckRequest, context: Any
    ) -> external_auth_pb2.CheckResponse:
        """Answer for one request. A refusal is an answer, not an error of this call."""
        asked = request.attributes.request.http
        headers = dict(asked.headers)
        try:
            if _is_open(asked.path):
                return allowed(None, headers)
            known = await self._identity.identify(bearer_of(headers, asked.path))
            await self._admission.request(known.passport.tenant)
        except Failure as failure:
            log_fields(refused=failure.reason_name)
            await self._note(failure, request.attributes)
            speaks_grpc = headers.get("content-type", "").startswith("application/grpc")
            return denied(failure, speaks_grpc=speaks_grpc, request_id=headers.get(REQUEST_ID_HEADER, ""))
        log_fields(tenant=known.passport.tenant, principal=known.passport.principal)
        return allowed(self._signer.sign(known.passport, known.ttl), headers)

    async def _note(self, failure: Failure, asked: attribute_context_pb2.AttributeContext) -> None:
        """Keep a refused credential in the audit log, unless there are more than anybody will read."""
        if failure.reason not in _CREDENTIALS or not await self._refusals.hit(_NOTED_REFUSALS):
            return
        http = asked.request.http
        entry = audit_service_pb2.AuditEntry(
            method=f"{http.method} {http.path.partition('?')[0]}"[:256],
            source_address=asked.source.address.socket_address.address,
            code=failure.code.name,
            reason=failure.reason_name,
            request_id=http.headers.get(REQUEST_ID_HEADER, "")[:128],
        )
        self._audit.add(entry)


def _is_open(path: str) -> bool:
    plain = path.partition("?")[0]
    return plain in _OPEN_REST or plain.startswith(_OPEN)
