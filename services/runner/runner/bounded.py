"""Cuts what a sandbox sends to what an event may hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.struct_pb2 import ListValue, Struct, Value

# Fields of one object and items of one list. Beyond it, nobody reads an event.
_ITEMS: Final = 1000
# protobuf's own parser gives up at 100 messages, and a level of a Struct is three of them.
_DEPTH: Final = 24
# An event has to fit into a message of 4 MiB.
_STRUCT_BYTES: Final = 1024 * 1024
_CUT: Final = "…"


def clean(value: Any) -> str:
    """Return a string that protobuf takes: '' for what is no string; lone surrogates replaced."""
    if not isinstance(value, str):
        return ""
    return value.encode("utf-8", "replace").decode()


def bounded_text(text: str, limit: int) -> tuple[str, bool]:
    """Return the text cut to `limit` bytes of UTF-8, with `…` at its end, and whether it was cut."""
    if len(text) * 4 <= limit:
        return text, False
    raw = text.encode()
    if len(raw) <= limit:
        return text, False
    return raw[: limit - len(_CUT.encode())].decode(errors="ignore") + _CUT, True


def bounded_struct(value: Any, string_limit: int) -> Struct:
    """Return an object as a Struct of at most 1 MiB; empty for what is no object.

    Strings are cut to `string_limit`, or shorter when there are too many; long lists and deep nesting end.
    """
    for limit in (string_limit, 1024, 16):
        struct = Struct()
        if isinstance(value, Mapping):
            _fill(struct, value, limit, _DEPTH)
        if struct.ByteSize() <= _STRUCT_BYTES:
            return struct
    return Struct()


def _fill(struct: Struct, value: Mapping[Any, Any], string_limit: int, depth: int) -> None:
    for number, (name, item) in enumerate(value.items()):
        if number == _ITEMS:
            break
        struct.fields[bounded_text(clean(name), 1024)[0]].CopyFrom(_value(item, string_limit, depth))


def _value(item: Any, string_limit: int, depth: int) -> Value:
    if isinstance(item, str):
        return Value(string_value=bounded_text(clean(item), string_limit)[0])
    if item is None or isinstance(item, int | float):
        return _scalar(item)
    if depth == 0:
        return Value(string_value=_CUT)
    if isinstance(item, Mapping):
        struct = Struct()
        _fill(struct, item, string_limit, depth - 1)
        return Value(struct_value=struct)
    values = [_value(part, string_limit, depth - 1) for part in list(item)[:_ITEMS]]
    return Value(list_value=ListValue(values=values))


def _scalar(item: bool | float | None) -> Value:
    if isinstance(item, bool):
        return Value(bool_value=item)
    try:
        number = math.nan if item is None else float(item)
    except OverflowError:
        return Value(string_value=_CUT)
    # JSON has no other numbers, and a Struct is JSON.
    return Value(number_value=number) if math.isfinite(number) else Value(null_value=0)  # type: ignore[arg-type]
