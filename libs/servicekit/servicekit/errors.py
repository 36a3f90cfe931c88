"""Failures with a reason: what every service raises, and the one table from reason to gRPC status.

A `Failure` travels in two forms: as a gRPC status with `google.rpc` details (see `status.py`), and as the
message `pointsman.errors.v1.Failure` where no status reaches, such as the last event of a turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final, TypeAlias

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration
from pointsman.errors.v1 import errors_pb2

from servicekit import status

Reason: TypeAlias = errors_pb2.ErrorReason.ValueType

_PREFIX: Final = "ERROR_REASON_"

_BY_CODE: Final[Mapping[grpc.StatusCode, Sequence[Reason]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: (
        errors_pb2.ERROR_REASON_INVALID_FIELD,
        errors_pb2.ERROR_REASON_MALFORMED_REQUEST,
        errors_pb2.ERROR_REASON_MODEL_UNKNOWN,
        errors_pb2.ERROR_REASON_PAGE_TOKEN_INVALID,
        errors_pb2.ERROR_REASON_PROVIDER_REQUEST_REFUSED,
        errors_pb2.ERROR_REASON_ATTACHMENT_UNSUPPORTED,
        errors_pb2.ERROR_REASON_ENCODING_UNSUPPORTED,
    ),
    grpc.StatusCode.OUT_OF_RANGE: (
        errors_pb2.ERROR_REASON_CURSOR_AHEAD,
        errors_pb2.ERROR_REASON_CURSOR_EXPIRED,
    ),
    grpc.StatusCode.UNAUTHENTICATED: (
        errors_pb2.ERROR_REASON_CREDENTIAL_MISSING,
        errors_pb2.ERROR_REASON_CREDENTIAL_INVALID,
        errors_pb2.ERROR_REASON_CREDENTIAL_EXPIRED,
        errors_pb2.ERROR_REASON_CREDENTIAL_REVOKED,
        errors_pb2.ERROR_REASON_PASSPORT_INVALID,
    ),
    grpc.StatusCode.PERMISSION_DENIED: (
        errors_pb2.ERROR_REASON_SCOPE_MISSING,
        errors_pb2.ERROR_REASON_ACCOUNT_PINNED,
        errors_pb2.ERROR_REASON_REFUSED_BY_POLICY,
        errors_pb2.ERROR_REASON_HOST_NOT_ALLOWED,
    ),
    grpc.StatusCode.NOT_FOUND: (
        errors_pb2.ERROR_REASON_SESSION_NOT_FOUND,
        errors_pb2.ERROR_REASON_TURN_NOT_FOUND,
        errors_pb2.ERROR_REASON_FILE_NOT_FOUND,
        errors_pb2.ERROR_REASON_SNAPSHOT_NOT_FOUND,
        errors_pb2.ERROR_REASON_PERMISSION_NOT_FOUND,
        errors_pb2.ERROR_REASON_TEMPLATE_NOT_FOUND,
        errors_pb2.ERROR_REASON_KEY_NOT_FOUND,
    ),
    grpc.StatusCode.ALREADY_EXISTS: (
        errors_pb2.ERROR_REASON_REQUEST_ID_REUSED,
        errors_pb2.ERROR_REASON_TEMPLATE_EXISTS,
    ),
    grpc.StatusCode.FAILED_PRECONDITION: (
        errors_pb2.ERROR_REASON_TURN_NOT_QUEUED,
        errors_pb2.ERROR_REASON_TURN_RUNNING,
        errors_pb2.ERROR_REASON_PERMISSION_DECIDED,
        errors_pb2.ERROR_REASON_TURN_NOT_FORKABLE,
        errors_pb2.ERROR_REASON_SESSION_DELETED,
        errors_pb2.ERROR_REASON_PATH_REFUSED,
        errors_pb2.ERROR_REASON_SHARED_FOLDER_NOT_FOUND,
        errors_pb2.ERROR_REASON_EGRESS_NOT_ALLOWED,
        errors_pb2.ERROR_REASON_PROVIDER_CREDENTIAL_MISSING,
        errors_pb2.ERROR_REASON_SANDBOX_UNSUPPORTED,
        errors_pb2.ERROR_REASON_MAX_TURNS_REACHED,
        errors_pb2.ERROR_REASON_PROVIDER_CREDENTIAL_REFUSED,
        errors_pb2.ERROR_REASON_OUTPUT_TOKENS_REACHED,
        errors_pb2.ERROR_REASON_CONTEXT_TOO_LONG,
        errors_pb2.ERROR_REASON_MODEL_REFUSED,
        errors_pb2.ERROR_REASON_ANSWER_INCOMPLETE,
        errors_pb2.ERROR_REASON_OUTPUT_SCHEMA_NOT_MET,
        errors_pb2.ERROR_REASON_MODEL_UNPRICED,
        errors_pb2.ERROR_REASON_WORKSPACE_MISSING,
    ),
    grpc.StatusCode.ABORTED: (
        errors_pb2.ERROR_REASON_LEASE_LOST,
        errors_pb2.ERROR_REASON_TURN_INTERRUPTED,
    ),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (
        errors_pb2.ERROR_REASON_QUEUE_FULL,
        errors_pb2.ERROR_REASON_SESSION_BUSY,
        errors_pb2.ERROR_REASON_RATE_LIMITED,
        errors_pb2.ERROR_REASON_QUOTA_EXCEEDED,
        errors_pb2.ERROR_REASON_BUDGET_EXCEEDED,
        errors_pb2.ERROR_REASON_WORKSPACE_FULL,
        errors_pb2.ERROR_REASON_SNAPSHOT_LIMIT,
        errors_pb2.ERROR_REASON_DISK_FULL,
        errors_pb2.ERROR_REASON_MESSAGE_TOO_LARGE,
        errors_pb2.ERROR_REASON_SANDBOXES_BUSY,
        errors_pb2.ERROR_REASON_SANDBOX_OUT_OF_MEMORY,
        errors_pb2.ERROR_REASON_OUTPUT_LIMIT,
        errors_pb2.ERROR_REASON_PROVIDER_RATE_LIMITED,
    ),
    grpc.StatusCode.CANCELLED: (
        errors_pb2.ERROR_REASON_TURN_CANCELLED,
        errors_pb2.ERROR_REASON_CALL_CANCELLED,
    ),
    grpc.StatusCode.DEADLINE_EXCEEDED: (
        errors_pb2.ERROR_REASON_TURN_TIMED_OUT,
        errors_pb2.ERROR_REASON_PROVIDER_TIMED_OUT,
        errors_pb2.ERROR_REASON_CALL_TIMED_OUT,
    ),
    grpc.StatusCode.UNAVAILABLE: (
        errors_pb2.ERROR_REASON_SANDBOX_CRASHED,
        errors_pb2.ERROR_REASON_SANDBOX_START_FAILED,
        errors_pb2.ERROR_REASON_PROVIDER_UNAVAILABLE,
        errors_pb2.ERROR_REASON_PROVIDER_RESPONSE_INVALID,
        errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
        errors_pb2.ERROR_REASON_DATABASE_UNAVAILABLE,
        errors_pb2.ERROR_REASON_SERVICE_DRAINING,
    ),
    grpc.StatusCode.UNIMPLEMENTED: (errors_pb2.ERROR_REASON_METHOD_UNIMPLEMENTED,),
    grpc.StatusCode.INTERNAL: (
        errors_pb2.ERROR_REASON_AGENT_FAILED,
        errors_pb2.ERROR_REASON_SANDBOX_PROTOCOL,
        errors_pb2.ERROR_REASON_INTERNAL,
    ),
}

CODES: Final[Mapping[Reason, grpc.StatusCode]] = {
    reason: code for code, reasons in _BY_CODE.items() for reason in reasons
}
"""The gRPC code of every reason but UNSPECIFIED, which is never sent."""

# What a status without our details means: it was made by gRPC itself or by a proxy on the way.
_UNTYPED: Final[Mapping[grpc.StatusCode, Reason]] = {
    grpc.StatusCode.UNAVAILABLE: errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors_pb2.ERROR_REASON_CALL_TIMED_OUT,
    # Not by us, who would have got CancelledError: the peer cut the call off when its grace was over.
    grpc.StatusCode.CANCELLED: errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
    grpc.StatusCode.UNIMPLEMENTED: errors_pb2.ERROR_REASON_METHOD_UNIMPLEMENTED,
    # gRPC's own limits are on the size of messages and metadata.
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors_pb2.ERROR_REASON_MESSAGE_TOO_LARGE,
}


# What gRPC says of a connection or a stream that broke, under codes that a service may send as well.
_BROKEN: Final = ("Stream removed", "RST_STREAM", "GOAWAY", "Socket closed", "Connection reset")
# When to try again, where the failure does not say: they are back within a second, or away for longer.
_RETRY_AFTER: Final[Mapping[Reason, timedelta]] = {
    errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE: timedelta(seconds=1),
    errors_pb2.ERROR_REASON_DATABASE_UNAVAILABLE: timedelta(seconds=1),
}


class Failure(Exception):  # noqa: N818 - the domain's word, the same as the message's
    """An expected error, with the reason that programs compare.

    `message` is for a person: what, where, and what to do. `fields` are pairs of a field's path and what is
    wrong with it. `retry_after` is None where trying again is no help. `metadata` has the values documented
    at the reason in `errors.proto`.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        fields: Sequence[tuple[str, str]] = (),
        retry_after: timedelta | None = None,
        **metadata: str,
    ) -> None:
        self.reason = reason
        self.message = _encodable(message)
        self.fields = tuple((_encodable(path), _encodable(problem)) for path, problem in fields)
        self.retry_after = retry_after
        self.metadata = {key: _encodable(value) for key, value in metadata.items()}
        super().__init__(reason, self.message)

    def __str__(self) -> str:
        return f"{self.reason_name}: {self.message}"

    @property
    def code(self) -> grpc.StatusCode:
        """The gRPC status code, from `CODES`."""
        return CODES.get(self.reason, grpc.StatusCode.INTERNAL)

    @property
    def reason_name(self) -> str:
        """The reason as it is on the wire: `SESSION_NOT_FOUND`."""
        return reason_name(self.reason)

    def to_proto(self) -> errors_pb2.Failure:
        """Return the failure as data. `fields` stay behind: the message names them."""
        retry_after = None
        if self.retry_after is not None:
            retry_after = Duration()
            retry_after.FromTimedelta(self.retry_after)
        return errors_pb2.Failure(
            reason=self.reason, message=self.message, metadata=self.metadata, retry_after=retry_after
        )

    @classmethod
    def from_proto(cls, proto: errors_pb2.Failure) -> Failure:
        """Read what `to_proto` wrote. A reason that this version does not know becomes INTERNAL."""
        known = proto.reason in CODES
        failure = cls(
            proto.reason if known else errors_pb2.ERROR_REASON_INTERNAL,
            proto.message,
            retry_after=proto.retry_after.ToTimedelta() if proto.HasField("retry_after") else None,
        )
        failure.metadata = dict(proto.metadata)
        return failure

    def to_status(self) -> status.Status:
        """Return code, details and trailing metadata as they go over the wire, within gRPC's limits.

        A service or database that is away gets a `RetryInfo` of a second, unless `retry_after` says another.
        """
        return status.pack(
            self.code,
            self.reason_name,
            self.message,
            fields=self.fields,
            retry_after=self.retry_after or _RETRY_AFTER.get(self.reason),
            metadata=self.metadata,
        )

    @classmethod
    def from_rpc_error(cls, error: grpc.aio.AioRpcError, service: str) -> Failure:
        """Read the failure that a peer sent; `service` is the peer's name for messages, as in `session`.

        Without our details the status came from gRPC itself: UNAVAILABLE and whatever says that the
        connection broke become SERVICE_UNAVAILABLE, and DEADLINE_EXCEEDED becomes CALL_TIMED_OUT, with the
        metadata `service`.
        """
        sent = status.unpack(error.trailing_metadata())
        reason = None if sent is None else reason_of(sent.reason)
        if sent is None or reason is None:
            return cls._untyped(error, service)
        failure = cls(reason, sent.message, fields=sent.fields, retry_after=sent.retry_after)
        failure.metadata = dict(sent.metadata)
        return failure

    @classmethod
    def _untyped(cls, error: grpc.aio.AioRpcError, service: str) -> Failure:
        reason = _UNTYPED.get(error.code(), errors_pb2.ERROR_REASON_INTERNAL)
        if reason == errors_pb2.ERROR_REASON_INTERNAL and any(
            sign in (error.details() or "") for sign in _BROKEN
        ):
            reason = errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE
        # gRPC's own words can name addresses and Python classes, which are no business of a client's.
        said = {
            errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE: "cannot be reached; try again",
            errors_pb2.ERROR_REASON_CALL_TIMED_OUT: "did not answer in time",
            errors_pb2.ERROR_REASON_METHOD_UNIMPLEMENTED: "does not have the method; it may be older",
            errors_pb2.ERROR_REASON_MESSAGE_TOO_LARGE: "was sent, or sent, more than one message may hold",
        }.get(reason, f"answered {error.code().name} and did not say why")
        return cls(reason, f"The {service} service {said}.", service=service)


def _encodable(text: str) -> str:
    """Replace what UTF-8 cannot hold, odd bytes of a file's name: protobuf would refuse it all."""
    return text.encode(errors="replace").decode()


def reason_name(reason: Reason) -> str:
    """Return a reason's name on the wire, `SESSION_NOT_FOUND`; `UNSPECIFIED` for a number without a name."""
    value = errors_pb2.ErrorReason.DESCRIPTOR.values_by_number.get(reason)
    return "UNSPECIFIED" if value is None else str(value.name).removeprefix(_PREFIX)


def reason_of(name: str) -> Reason | None:
    """Return the reason with this name on the wire, or None for one that this version does not know."""
    value = errors_pb2.ErrorReason.DESCRIPTOR.values_by_name.get(_PREFIX + name)
    if value is None or value.number not in CODES:
        return None
    return errors_pb2.ErrorReason.ValueType(value.number)
