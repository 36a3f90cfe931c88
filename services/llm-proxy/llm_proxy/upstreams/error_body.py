"""The message in a provider's error body, wherever it is in it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

# Bodies nest messages as JSON in a string, such as OpenRouter's `metadata.raw`.
_DEPTH: Final = 12
_LONGEST: Final = 2_000
# The most telling first: OpenRouter's own message is "Provider returned error", the provider's is in `raw`.
_KEYS: Final = ("error", "detail", "details", "errors", "raw", "metadata", "message", "msg", "error_message",
                "Message", "reason", "title")  # fmt: skip
_EMPTY: Final = frozenset({"provider returned error", "bad request", "error", "invalid_request_error"})
_TITLE: Final = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_BODY: Final = re.compile(r"<(style|script)\b.*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)
NOTHING: Final = "without saying why"


def error_message(raw: bytes) -> str:
    """Return what a provider says in an error; of a body that says nothing, that it does not say why."""
    return told(raw.decode("utf-8", "replace")) or NOTHING


def told(text: str) -> str:
    """Return the message in a text that may be JSON, HTML, or the message itself; empty for none."""
    found = [message for message in _messages(_value(text), _DEPTH) if message]
    telling = [message for message in found if message.lower().strip(" .") not in _EMPTY]
    return (telling or found or [""])[0][:_LONGEST]


def _value(text: str) -> Any:
    stripped = text.strip()
    if stripped[:1] in ("{", "["):
        try:
            return json.loads(stripped)
        except (ValueError, RecursionError):
            return stripped
    return stripped


def _messages(value: Any, depth: int) -> Iterator[str]:
    """Yield the messages in a value, the most telling first."""
    if depth == 0:
        return
    if isinstance(value, Mapping):
        for key in _KEYS:
            if key in value:
                yield from _messages(value[key], depth - 1)
    elif isinstance(value, list):
        for item in value[:10]:
            yield from _messages(item, depth - 1)
    elif isinstance(value, str):
        yield from _of_text(value, depth)


def _of_text(text: str, depth: int) -> Iterator[str]:
    stripped = text.strip()
    start = stripped.find("{")
    inner = _value(stripped[start:]) if start >= 0 else None
    if isinstance(inner, Mapping):
        # A message that quotes another server's error, as JSON in a text.
        yield from _messages(inner, depth - 1)
        return
    yield _plain(stripped) if stripped[:1] == "<" else stripped


def _plain(page: str) -> str:
    """Return what a page of HTML says, in one line."""
    title = _TITLE.search(page)
    text = title[1] if title is not None and title[1].strip() else _BODY.sub(" ", page)
    return " ".join(html.unescape(text).split())
