"""Failures in the shape of Anthropic's Messages API, for the endpoints that speak it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import grpc
from pointsman.errors.v1 import errors_pb2

from servicekit.context import current_request_id
from servicekit.errors import Failure, Reason

REASON_HEADER: Final = "x-pointsman-reason"
ERROR_CODE: Final = "error_code"
"""The key in a failure's metadata that holds Anthropic's own code for it."""

_BY_CODE: Final[Mapping[grpc.StatusCode, int]] = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.UNIMPLEMENTED: 404,
    grpc.StatusCode.INTERNAL: 500,
}

_BY_REASON: Final[Mapping[Reason, int]] = {
    errors_pb2.ERROR_REASON_MODEL_UNKNOWN: 404,
    errors_pb2.ERROR_REASON_MESSAGE_TOO_LARGE: 413,
    errors_pb2.ERROR_REASON_ENCODING_UNSUPPORTED: 415,
    errors_pb2.ERROR_REASON_HOST_NOT_ALLOWED: 421,
    # Not 429: agents would try again, and the budget would be as spent as before.
    errors_pb2.ERROR_REASON_BUDGET_EXCEEDED: 403,
    errors_pb2.ERROR_REASON_QUOTA_EXCEEDED: 403,
    errors_pb2.ERROR_REASON_MODEL_UNPRICED: 403,
    errors_pb2.ERROR_REASON_PROVIDER_UNAVAILABLE: 529,
    # The provider refuses the installation's key, not the caller's: neither 401 nor a reason to try again.
    errors_pb2.ERROR_REASON_PROVIDER_CREDENTIAL_REFUSED: 403,
    errors_pb2.ERROR_REASON_PROVIDER_CREDENTIAL_MISSING: 403,
    errors_pb2.ERROR_REASON_PROVIDER_RESPONSE_INVALID: 502,
}

_TYPES: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "invalid_request_error",
    413: "request_too_large",
    415: "invalid_request_error",
    421: "permission_error",
    429: "rate_limit_error",
    499: "api_error",
    500: "api_error",
    502: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


REQUEST_ID_RESPONSE_HEADER: Final = "request-id"
"""The header in which Anthropic's API names a request, and its SDKs look for it."""

# After a pause these calls can succeed; every other failure repeats.
_RETRYABLE: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.INTERNAL,
    }
)
_PERMANENT: Final = frozenset({400, 401, 403, 404, 413})


def http_status(failure: Failure) -> int:
    """Return the HTTP status that Anthropic's API would have for this."""
    return _BY_REASON.get(failure.reason, _BY_CODE[failure.code])


def error_data(failure: Failure) -> dict[str, Any]:
    """Return the body of an error. `details` are what Anthropic's SDKs read of errors that they know."""
    kind = _TYPES[http_status(failure)]
    error: dict[str, Any] = {"type": kind, "message": failure.message}
    if error_code := failure.metadata.get(ERROR_CODE):
        error["details"] = {"error_code": error_code}
    return {"type": "error", "error": error, "request_id": _request_id()}


def _request_id() -> str | None:
    """Return the id of the current call, None outside of one."""
    try:
        return current_request_id()
    except LookupError:
        return None


def retryable(failure: Failure) -> bool:
    """Return whether the same request can succeed later."""
    return failure.code in _RETRYABLE and http_status(failure) not in _PERMANENT


def error_headers(failure: Failure) -> dict[str, str]:
    """Return the headers of an error: its reason, and when to retry.

    `x-should-retry: false` tells Anthropic's SDKs and Claude Code that a retry cannot help. Without it,
    Claude Code 2.1 retries some of these for minutes, a refused key among them.
    """
    headers = {REASON_HEADER: failure.reason_name}
    if not retryable(failure):
        headers["x-should-retry"] = "false"
    if failure.retry_after is not None:
        headers["retry-after"] = str(max(1, round(failure.retry_after.total_seconds())))
    return headers


def error_event(failure: Failure) -> bytes:
    """Return an error as an event of a stream that has begun, after a comment that has the details."""
    details = {
        "reason": failure.reason_name,
        "status": http_status(failure),
        "message": failure.message,
        "metadata": failure.metadata,
    }
    return comment("error", details) + f"event: error\ndata: {json.dumps(error_data(failure))}\n\n".encode()


def comment(name: str, data: Mapping[str, Any]) -> bytes:
    """Return a line that clients of the Messages API skip, and our relay reads."""
    return f": pointsman-{name} {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def internal() -> Failure:
    """Return what a caller is told of a fault of ours."""
    request_id = current_request_id()
    return Failure(
        errors_pb2.ERROR_REASON_INTERNAL,
        f"A fault of Pointsman's. The log has it under {request_id}.",
        request_id=request_id,
    )
