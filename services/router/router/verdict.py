"""The edge's question answered: how an allowed request goes on, and what a denied one is told."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Mapping
from typing import Final

from envoy.config.core.v3 import base_pb2
from envoy.service.auth.v3 import external_auth_pb2
from envoy.type.v3 import http_status_pb2
from google.rpc import status_pb2
from servicekit.errors import Failure
from servicekit.passport import PASSPORT_HEADER
from servicekit.status import DETAILS_HEADER, DOMAIN

from router.identity.bearer import CREDENTIAL_HEADERS

_OURS: Final = "x-pointsman-"
_HTTP_STATUS: Final[Mapping[str, int]] = {
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
}
_ANTHROPIC_TYPES: Final[Mapping[str, str]] = {
    "UNAUTHENTICATED": "authentication_error",
    "PERMISSION_DENIED": "permission_error",
    "RESOURCE_EXHAUSTED": "rate_limit_error",
    "UNAVAILABLE": "overloaded_error",
}
MESSAGES_PREFIX: Final = "/llm/"
"""Where the edge serves Anthropic's Messages API."""


def allowed(token: str | None, sent: Iterable[str]) -> external_auth_pb2.CheckResponse:
    """Let the request on, with the passport; `sent` are the names of its headers.

    The credential stays at the edge, and what a client claims to be is dropped. A request to an open door
    has no passport: `token` is None then, and one that the client brought is dropped, too.
    """
    removed = sorted(name for name in sent if name in CREDENTIAL_HEADERS or name.startswith(_OURS))
    ok = external_auth_pb2.OkHttpResponse()
    if token is not None:
        ok.headers.append(_overwriting(PASSPORT_HEADER, token))
        # Envoy removes after it has set.
        removed = [name for name in removed if name != PASSPORT_HEADER]
    ok.headers_to_remove.extend(removed)
    return external_auth_pb2.CheckResponse(status=status_pb2.Status(code=0), ok_response=ok)


def denied(
    failure: Failure, *, path: str, speaks_grpc: bool, request_id: str
) -> external_auth_pb2.CheckResponse:
    """Refuse the request in the form of its protocol.

    An HTTP client gets a JSON `google.rpc.Status`, below `/llm/` an error of Anthropic's API. For a
    client of gRPC or gRPC-Web, Envoy takes the code from the HTTP status and the message from the body;
    the typed details are in their header.
    """
    response = external_auth_pb2.DeniedHttpResponse(
        status=http_status_pb2.HttpStatus(code=_HTTP_STATUS.get(failure.code.name, 403)),
    )
    if request_id:
        response.headers.append(_overwriting("x-request-id", request_id))
    if failure.retry_after is not None:
        seconds = max(1, math.ceil(failure.retry_after.total_seconds()))
        response.headers.append(_overwriting("retry-after", str(seconds)))
    if speaks_grpc:
        response.body = failure.message
        response.headers.append(_overwriting(DETAILS_HEADER, _details(failure)))
        # Envoy's own mapping makes UNAVAILABLE of 429.
        response.headers.append(_overwriting("grpc-status", str(failure.code.value[0])))
    else:
        if path.startswith(MESSAGES_PREFIX):
            response.body = json.dumps(_as_anthropic(failure, request_id))
            for name, value in _anthropic_headers(failure, request_id).items():
                response.headers.append(_overwriting(name, value))
        else:
            response.body = json.dumps(_as_json(failure))
        response.headers.append(_overwriting("content-type", "application/json"))
        if failure.code.name == "UNAUTHENTICATED":
            response.headers.append(_overwriting("www-authenticate", 'Bearer realm="pointsman"'))
    code = failure.code.value[0]
    return external_auth_pb2.CheckResponse(status=status_pb2.Status(code=code), denied_response=response)


def _as_json(failure: Failure) -> dict[str, object]:
    info: dict[str, object] = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": failure.reason_name,
        "domain": DOMAIN,
    }
    if failure.metadata:
        info["metadata"] = failure.metadata
    details: list[dict[str, object]] = [info]
    if failure.retry_after is not None:
        delay = f"{failure.retry_after.total_seconds():.3f}s"
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
    return {"code": failure.code.value[0], "message": failure.message, "details": details}


def _as_anthropic(failure: Failure, request_id: str) -> dict[str, object]:
    kind = _ANTHROPIC_TYPES.get(failure.code.name, "permission_error")
    error = {"type": kind, "message": failure.message}
    return {"type": "error", "error": error, "request_id": request_id or None}


def _anthropic_headers(failure: Failure, request_id: str) -> dict[str, str]:
    """Return what Anthropic's SDKs read: the request's id, and whether a retry can help."""
    headers = {"request-id": request_id, "x-pointsman-reason": failure.reason_name}
    if failure.code.name in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        # Claude Code retries a refused key for minutes unless it is told not to.
        headers["x-should-retry"] = "false"
    return headers


def _details(failure: Failure) -> str:
    raw = dict(failure.to_status().trailing_metadata)[DETAILS_HEADER]
    # As binary headers look on the wire: base64, without padding.
    return base64.b64encode(raw if isinstance(raw, bytes) else raw.encode()).decode().rstrip("=")


def _overwriting(name: str, value: str) -> base_pb2.HeaderValueOption:
    return base_pb2.HeaderValueOption(
        header=base_pb2.HeaderValue(key=name, value=value),
        append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )
