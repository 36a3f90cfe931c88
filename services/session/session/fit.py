"""Messages that are made to fit into a response: long texts are cut, and say so.

What is stored is bounded when it is written, and again when it is read, for what an older version stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

EVENT_BYTES: Final = 2 * 1024 * 1024
"""Bytes of one event. A turn has its prompt (1 MiB) beside its result, and a response holds 4 MiB."""
VIEW_BYTES: Final = 3 * 1024 * 1024
"""Bytes of one session, turn or template in a response."""

_ALLOWANCES: Final = (1024 * 1024, 256 * 1024, 64 * 1024, 16 * 1024, 4096, 256)

Fitted = TypeVar("Fitted", bound=Message)


def fit(message: Fitted, limit: int) -> Fitted:
    """Cut the message's longest texts, in place, until it has at most `limit` bytes; return it.

    A text that was cut ends in a marker that says how much of it is left. Bytes are emptied, and lists lose
    their last items, when texts are not enough.
    """
    for allowance in _ALLOWANCES:
        if message.ByteSize() <= limit:
            return message
        for owner in list(_inside(message)):
            _cut_fields(owner, allowance)
    while message.ByteSize() > limit and _shorten_lists(message):
        pass
    return message


def cut(text: str, allowance: int) -> str:
    """Return at most `allowance` bytes of a text and, if that is not all, a marker."""
    raw = text.encode()
    if len(raw) <= allowance + len(_marker(len(raw), len(raw))):
        return text
    kept = raw[:allowance].decode(errors="ignore")
    return kept + _marker(len(kept.encode()), len(raw))


def _marker(kept: int, whole: int) -> str:
    return f"\n[truncated: {kept} of {whole} bytes]"


def _inside(message: Message) -> Iterator[Message]:
    """Yield the message and all that are in it."""
    yield message
    for field, value in message.ListFields():
        if field.type != FieldDescriptor.TYPE_MESSAGE:
            continue
        for inner in _messages(field, value):
            yield from _inside(inner)


def _messages(field: FieldDescriptor, value: Any) -> list[Message]:
    if not field.is_repeated:
        return [value]
    if hasattr(value, "values"):
        return [inner for inner in value.values() if isinstance(inner, Message)]
    return list(value)


def _cut_fields(owner: Message, allowance: int) -> None:
    for field, value in owner.ListFields():
        if field.type == FieldDescriptor.TYPE_STRING:
            if not field.is_repeated:
                setattr(owner, field.name, cut(value, allowance))
            elif not hasattr(value, "values"):
                value[:] = [cut(text, allowance) for text in value]
        elif field.type == FieldDescriptor.TYPE_BYTES and not field.is_repeated and len(value) > allowance:
            owner.ClearField(field.name)


def _shorten_lists(message: Message) -> bool:
    """Halve the longest list in the message; say whether there was one."""
    lists = [value for owner in _inside(message) for field, value in owner.ListFields() if field.is_repeated]
    longest = max(lists, key=len, default=None)
    if longest is None or len(longest) == 0:
        return False
    half = len(longest) // 2
    if hasattr(longest, "values"):
        for key in list(longest)[half:]:
            del longest[key]
    else:
        del longest[half:]
    return True
