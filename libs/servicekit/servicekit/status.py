"""A failure on the wire: `google.rpc.Status` with its details in a trailing header, and back.

HTTP/2 peers refuse headers above 8 KiB by default, and then the whole error is lost. So every part has a
byte limit here, and the parts together stay below that: the message counts about four times (three bytes a
byte when percent-encoded in `grpc-message`, and again in the details), the rest 4/3 times (base64).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

DETAILS_HEADER: Final = "grpc-status-details-bin"
DOMAIN: Final = "pointsman"

MESSAGE_BYTES: Final = 1000
FIELDS_BYTES: Final = 1200
METADATA_BYTES: Final = 1000


@dataclass(frozen=True)
class Status:
    """The three arguments of `ServicerContext.abort`."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True)
class Sent:
    """What a peer's status says, with the reason as its name."""

    reason: str
    message: str
    metadata: Mapping[str, str]
    fields: Sequence[tuple[str, str]] = ()
    retry_after: timedelta | None = None


@dataclass
class _Room:
    """Bytes that are left for a list of texts."""

    left: int

    def take(self, *texts: str) -> bool:
        """Use up the texts' bytes; False, and nothing used, when they do not fit."""
        size = sum(len(text.encode()) for text in texts)
        if size > self.left:
            return False
        self.left -= size
        return True


def shortened(text: str, limit: int) -> str:
    """Return the text, cut at a character to at most `limit` bytes of UTF-8, with an ellipsis when cut."""
    raw = text.encode()
    if len(raw) <= limit:
        return text
    return raw[: limit - 3].decode(errors="ignore") + "…"


def pack(
    code: grpc.StatusCode,
    reason: str,
    message: str,
    *,
    fields: Sequence[tuple[str, str]],
    retry_after: timedelta | None,
    metadata: Mapping[str, str],
) -> Status:
    """Make the status. Fields and metadata that do not fit are left out, from the end; the message is cut."""
    message = shortened(message, MESSAGE_BYTES)
    room = _Room(METADATA_BYTES)
    details: list[Message] = [
        error_details_pb2.ErrorInfo(
            reason=reason,
            domain=DOMAIN,
            metadata={key: value for key, value in metadata.items() if room.take(key, value)},
        )
    ]
    if fields:
        details.append(_bad_request(fields))
    if retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromTimedelta(retry_after)
        details.append(retry)
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        status.details.add().Pack(detail)
    return Status(code, message, ((DETAILS_HEADER, status.SerializeToString()),))


def _bad_request(fields: Sequence[tuple[str, str]]) -> error_details_pb2.BadRequest:
    room = _Room(FIELDS_BYTES)
    return error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field=path, description=description)
            for path, description in fields
            if room.take(path, description)
        ]
    )


def unpack(trailing_metadata: Iterable[Any] | None) -> Sent | None:
    """Read what `pack` wrote; None when the status has no details of ours."""
    raw = next((value for key, value in trailing_metadata or () if key == DETAILS_HEADER), None)
    if not isinstance(raw, bytes):
        return None
    status = status_pb2.Status()
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    has_retry = False
    try:
        status.ParseFromString(raw)
        for detail in status.details:
            detail.Unpack(info)
            detail.Unpack(bad_request)
            has_retry = detail.Unpack(retry) or has_retry
    except DecodeError:
        return None
    if info.domain != DOMAIN:
        return None
    return Sent(
        reason=info.reason,
        message=status.message,
        metadata=dict(info.metadata),
        fields=tuple((violation.field, violation.description) for violation in bad_request.field_violations),
        retry_after=retry.retry_delay.ToTimedelta() if has_retry else None,
    )
