"""From bytes to JSON that every reader understands in the same way.

A body is checked here and then goes on to a provider, partly byte by byte. Where a key comes twice, or in
another case, the provider's parser may take another value than the one that was checked. So a body is
accepted only if it has one meaning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import pydantic_core
from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from llm_proxy.messages.invalid import invalid

# What is the caller's own and may have any keys: arguments of tools, and schemas.
_FREE: Final = frozenset({"input", "input_schema", "input_examples", "schema", "output_schema"})
_SHOWN: Final = 64


def parsed(raw: bytes) -> Any:
    """Return what a body says. Raises Failure MALFORMED_REQUEST, or INVALID_FIELD for a doubtful key."""
    body = _unambiguous(raw)
    _check_names(body)
    return body


def _unambiguous(raw: bytes) -> Any:
    """Return what a body says if no object in it has a key twice."""
    try:
        body = pydantic_core.from_json(raw)
        # As JavaScript writes JSON, and so Claude Code. What comes out as it went in has no key twice; to
        # compare takes a third of the time that it takes to look at every key.
        if pydantic_core.to_json(body) == raw:
            return body
    except ValueError:
        # It knows neither half a surrogate pair, which a text that was cut may end with, nor deep nesting.
        pass
    try:
        return json.loads(raw, object_pairs_hook=_once_each)
    except (ValueError, RecursionError):
        raise Failure(errors_pb2.ERROR_REASON_MALFORMED_REQUEST, "The body is not JSON.") from None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise invalid(_shown(twice), "comes twice in one object; send each key once")
    return found


def _check_names(body: Any) -> None:
    """Raise Failure INVALID_FIELD for a key of the API's own objects that is not written as the API does."""
    left: list[Any] = [body]
    while left:
        value = left.pop()
        if isinstance(value, list):
            left += [item for item in value if isinstance(item, (dict, list))]
        elif isinstance(value, dict):
            left += _values(value)


def _values(fields: Mapping[str, Any]) -> list[Any]:
    for name in fields:
        # Readers that take keys in any case also take some other letters for these (K for k).
        if not (name.isascii() and name.islower()):
            raise invalid(
                _shown(name),
                "is not a name of the Messages API; its names are lower-case, such as max_tokens",
            )
    return [value for name, value in fields.items() if isinstance(value, (dict, list)) and name not in _FREE]


def _shown(name: str) -> str:
    return name[:_SHOWN].encode("ascii", "backslashreplace").decode()
