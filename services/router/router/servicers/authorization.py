"""`envoy.service.auth.v3.Authorization`: the edge asks it about every request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from envoy.service.auth.v3 import attribute_context_pb2, external_auth_pb2, external_auth_pb2_grpc
from servicekit.context import log_fields
from servicekit.errors import Failure
from servicekit.passport import REQUEST_ID_HEADER, PassportSigner

from router.identity.callers import Asked, Callers
from router.verdict import allowed, denied

# Doors without a lock: probes, and tools that only look at what there is to call.
_OPEN: Final = (
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1.ServerReflection/",
    "/grpc.reflection.v1alpha.ServerReflection/",
    "/pointsman.system.v1.SystemService/GetHealth",
)
_OPEN_REST: Final = frozenset({"/healthz"})


class AuthorizationServicer(external_auth_pb2_grpc.AuthorizationServicer):  # type: ignore[misc]
    """Checks credentials and gives out passports. Reachable for the edge only: its answer is a passport."""

    def __init__(self, callers: Callers, signer: PassportSigner) -> None:
        self._callers = callers
        self._signer = signer

    async def Check(
        self, request: external_auth_pb2.CheckRequest, context: Any
    ) -> external_auth_pb2.CheckResponse:
        """Answer for one request. A refusal is an answer, not an error of this call."""
        asked = request.attributes.request.http
        headers = dict(asked.headers)
        try:
            if _is_open(asked.path):
                return allowed(None, headers)
            known = await self._callers.known(_asked(request.attributes, headers))
        except Failure as failure:
            log_fields(refused=failure.reason_name)
            speaks_grpc = headers.get("content-type", "").startswith("application/grpc")
            return denied(
                failure,
                path=asked.path,
                speaks_grpc=speaks_grpc,
                request_id=headers.get(REQUEST_ID_HEADER, ""),
            )
        log_fields(tenant=known.passport.tenant, principal=known.passport.principal)
        return allowed(self._signer.sign(known.passport, known.ttl), headers)


def _asked(attributes: attribute_context_pb2.AttributeContext, headers: Mapping[str, str]) -> Asked:
    http = attributes.request.http
    source = attributes.source.address.socket_address.address
    return Asked(headers, http.path, http.method, source, headers.get(REQUEST_ID_HEADER, ""))


def _is_open(path: str) -> bool:
    plain = path.partition("?")[0]
    return plain in _OPEN_REST or plain.startswith(_OPEN)
