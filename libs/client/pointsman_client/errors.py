"""What can go wrong, as exceptions that programs can tell apart."""
# ruff: noqa: N818 - `except NotFound` reads as what it means

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar, Final

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import turn_pb2

_DETAILS: Final = "grpc-status-details-bin"
_REQUEST_ID: Final = "x-request-id"


class PointsmanError(Exception):
    """A failure. `reason` is a name of the contract's `ErrorReason`, such as `SESSION_NOT_FOUND`.

    A failure of the connection has a reason as well, such as `SERVICE_UNAVAILABLE`. `reason` is empty only
    for a status that neither Pointsman nor gRPC's transport made. `retry_after` is None where trying again is
    no help. `request_id` is the call's id in the installation's logs, when known.
    """

    codes: ClassVar[Sequence[grpc.StatusCode]] = ()

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        metadata: Mapping[str, str] | None = None,
        fields: Sequence[tuple[str, str]] = (),
        retry_after: timedelta | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.code = code
        self.metadata = dict(metadata or {})
        self.fields = tuple(fields)
        self.retry_after = retry_after
        self.request_id = request_id


class InvalidRequest(PointsmanError):
    """The request makes no sense; `fields` says which of its fields and why."""

    codes = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.UNIMPLEMENTED)


class Unauthenticated(PointsmanError):
    """No key, a wrong one, or one that has expired or was revoked."""

    codes = (grpc.StatusCode.UNAUTHENTICATED,)


class PermissionDenied(PointsmanError):
    """The key's role, its account or a policy does not allow it."""

    codes = (grpc.StatusCode.PERMISSION_DENIED,)


class NotFound(PointsmanError):
    """There is no such thing, or it is somebody else's."""

    codes = (grpc.StatusCode.NOT_FOUND,)


class Conflict(PointsmanError):
    """It does not fit what is there: a used request id, a turn that is not queued any more."""

    codes = (grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.ABORTED)


class LimitReached(PointsmanError):
    """A limit, quota or budget; `retry_after` says when to come back, where that helps."""

    codes = (grpc.StatusCode.RESOURCE_EXHAUSTED,)


class Cancelled(PointsmanError):
    """Somebody cancelled it."""

    codes = (grpc.StatusCode.CANCELLED,)


class TimedOut(PointsmanError):
    """It took longer than it may."""

    codes = (grpc.StatusCode.DEADLINE_EXCEEDED,)


class Unavailable(PointsmanError):
    """The installation, or a part of it, cannot be reached just now."""

    codes = (grpc.StatusCode.UNAVAILABLE,)


class Internal(PointsmanError):
    """A fault of the installation; its log has it under `request_id`."""

    codes = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS)


class TurnFailed(PointsmanError):
    """The turn ended without success. `finished` is how, `turn` which."""

    def __init__(self, turn: str, finished: turn_pb2.TurnFinished) -> None:
        error = finished.error
        outcome = turn_pb2.TurnState.Name(finished.outcome).removeprefix("TURN_STATE_").lower()
        super().__init__(
            error.message or f"The turn is {outcome}.",
            reason=_reason_name(error.reason) if finished.HasField("error") else "",
            metadata=error.metadata,
            retry_after=error.retry_after.ToTimedelta() if error.HasField("retry_after") else None,
        )
        self.turn = turn
        self.finished = finished


# A status without details was made by gRPC's transport, here or at a proxy on the way.
_UNTYPED: Final[Mapping[grpc.StatusCode, str]] = {
    grpc.StatusCode.UNAVAILABLE: "SERVICE_UNAVAILABLE",
    grpc.StatusCode.DEADLINE_EXCEEDED: "CALL_TIMED_OUT",
    grpc.StatusCode.UNIMPLEMENTED: "METHOD_UNIMPLEMENTED",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "MESSAGE_TOO_LARGE",
}
# What it says of a connection or a stream that broke, under other codes than UNAVAILABLE.
_BROKEN: Final = ("Stream removed", "RST_STREAM", "GOAWAY", "Socket closed", "Connection reset")
# A connection is made anew at once; a service that is away says by itself when to come back.
_RETRY_AFTER: Final = timedelta(seconds=0.1)

_CLASSES: Final = {code: kind for kind in PointsmanError.__subclasses__() for code in kind.codes}


def from_rpc_error(error: grpc.aio.AioRpcError) -> PointsmanError:
    """Return the exception for a failed call; Unavailable for a connection that broke, whatever its code."""
    info, fields, retry_after = _details(error.trailing_metadata())
    if not info.reason:
        return _untyped(error)
    return _CLASSES.get(error.code(), Internal)(
        error.details() or error.code().name,
        reason=info.reason,
        code=error.code(),
        metadata=info.metadata,
        fields=fields,
        retry_after=retry_after,
        request_id=_request_id(error),
    )


def _untyped(error: grpc.aio.AioRpcError) -> PointsmanError:
    code, said = error.code(), error.details() or ""
    if code not in _UNTYPED and any(sign in said for sign in _BROKEN):
        code = grpc.StatusCode.UNAVAILABLE
    away = code is grpc.StatusCode.UNAVAILABLE
    return _CLASSES.get(code, Internal)(
        f"The connection to Pointsman failed: {said}" if away else said or code.name,
        reason=_UNTYPED.get(code, ""),
        code=code,
        retry_after=_RETRY_AFTER if away else None,
        request_id=_request_id(error),
    )


def _details(
    trailing: Any,
) -> tuple[error_details_pb2.ErrorInfo, Sequence[tuple[str, str]], timedelta | None]:
    info, bad, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    retry_after = None
    raw = next((value for key, value in trailing or () if key == _DETAILS), b"")
    try:
        for detail in status_pb2.Status.FromString(raw).details:
            detail.Unpack(info)
            detail.Unpack(bad)
            if detail.Unpack(retry):
                retry_after = retry.retry_delay.ToTimedelta()
    except DecodeError:
        pass  # Somebody on the way wrote it; the code and message still say what they say.
    return info, [(each.field, each.description) for each in bad.field_violations], retry_after


def _request_id(error: grpc.aio.AioRpcError) -> str:
    metadata = (*(error.trailing_metadata() or ()), *(error.initial_metadata() or ()))
    return next((str(value) for key, value in metadata if key == _REQUEST_ID), "")


def _reason_name(reason: errors_pb2.ErrorReason.ValueType) -> str:
    value = errors_pb2.ErrorReason.DESCRIPTOR.values_by_number.get(reason)
    return "" if value is None else str(value.name).removeprefix("ERROR_REASON_")
