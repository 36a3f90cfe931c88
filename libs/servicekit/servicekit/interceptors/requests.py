"""From bytes to a request that keeps its rules."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import protovalidate
from google.protobuf.message import DecodeError, Message
from pointsman.errors.v1 import errors_pb2

from servicekit.errors import Failure
from servicekit.limits import MESSAGE_LIMIT

Parse = Callable[[bytes], Any]


def read(raw: bytes, parse: Parse) -> Any:
    """Return the request.

    Raises Failure MESSAGE_TOO_LARGE, MALFORMED_REQUEST for bytes that are no such message, and INVALID_FIELD
    with every field that breaks its rule.
    """
    if len(raw) > MESSAGE_LIMIT:
        raise Failure(
            errors_pb2.ERROR_REASON_MESSAGE_TOO_LARGE,
            f"The message has {len(raw)} bytes; at most {MESSAGE_LIMIT} are taken.",
            limit=str(MESSAGE_LIMIT),
        )
    try:
        request = parse(raw)
    except (DecodeError, ValueError) as error:
        raise Failure(
            errors_pb2.ERROR_REASON_MALFORMED_REQUEST,
            "The bytes of the request are not the message that this method takes: it may be cut off, nested "
            "too deeply, of another type, or hold text that is not UTF-8.",
        ) from error
    if isinstance(request, Message):
        check(request)
    return request


def answer_bytes(response: bytes) -> bytes:
    """Return a serialized response. Raises Failure MESSAGE_TOO_LARGE for one that gRPC would not send."""
    if len(response) > MESSAGE_LIMIT:
        raise Failure(
            errors_pb2.ERROR_REASON_MESSAGE_TOO_LARGE,
            f"The response has {len(response)} bytes; at most {MESSAGE_LIMIT} can be sent. Ask for a smaller "
            "page, or for a part.",
            limit=str(MESSAGE_LIMIT),
        )
    return response


def no_message() -> Failure:
    """Return the failure for a call that ended before its one message."""
    return Failure(
        errors_pb2.ERROR_REASON_MALFORMED_REQUEST,
        "The call ended without a request. This method takes exactly one message, which may be empty.",
    )


async def read_each(raw_requests: AsyncIterator[bytes], parse: Parse) -> AsyncIterator[Any]:
    """Read a stream of requests, as `read` does each."""
    async for raw in raw_requests:
        yield read(raw, parse)


def check(request: Message) -> None:
    """Raise Failure INVALID_FIELD unless the message keeps the rules that its proto states."""
    violations = protovalidate.collect_violations(request)
    if not violations:
        return
    fields = [(_path(violation.proto), str(violation.proto.message)) for violation in violations]
    raise Failure(
        errors_pb2.ERROR_REASON_INVALID_FIELD,
        "; ".join(f"{path}: {problem}" if path else problem for path, problem in fields),
        fields=fields,
    )


def _path(violation: Any) -> str:
    """Return the field's path as people write it: `options.models[2].name`."""
    if not violation.field:
        return ""
    steps = []
    for element in violation.field.elements:
        step = element.field_name
        if element.subscript is not None:
            key = element.subscript.value
            step += f'["{key}"]' if isinstance(key, str) else f"[{str(key).lower()}]"
        steps.append(step)
    return ".".join(steps)
