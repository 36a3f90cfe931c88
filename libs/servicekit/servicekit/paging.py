"""Page tokens: where a listing goes on, bound to the listing that gave it out."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final, TypeVar

from google.protobuf.message import Message
from pointsman.errors.v1 import errors_pb2

from servicekit.errors import Failure

_DIGEST_BYTES: Final = 9
# Below the 4 MiB of a message, with room for its frame; one that is larger came in a message itself.
_PAGE_BYTES: Final = 3 * 1024 * 1024

View = TypeVar("View", bound=Message)


class Listing:
    """One listing: its method, whose it is, and its filters. A token of any other is refused."""

    def __init__(self, *what: object) -> None:
        digest = hashlib.sha256(repr(what).encode()).digest()[:_DIGEST_BYTES]
        self._digest = base64.urlsafe_b64encode(digest).decode()

    def token(self, number: int, text: str = "") -> str:
        """Return the token that goes on after this key."""
        return base64.urlsafe_b64encode(json.dumps([self._digest, number, text]).encode()).decode()

    def key(self, token: str) -> tuple[int, str] | None:
        """Return the key that a token goes on after, None for the first page; Failure PAGE_TOKEN_INVALID."""
        if not token:
            return None
        try:
            read: Any = json.loads(base64.urlsafe_b64decode(token.encode()))
        except (ValueError, binascii.Error, RecursionError):
            raise _invalid() from None
        match read:
            case [self._digest, int(number), str(text)] if _is_key(number, text):
                return number, text
        raise _invalid()


def _is_key(number: int, text: str) -> bool:
    """Say whether they are a number and a text to every database, whoever made them up."""
    return not isinstance(number, bool) and abs(number) < 2**63 and text.isprintable()


def size(asked: int, default: int) -> int:
    """Return how many a page has at most: what was asked for, or the default."""
    return asked or default


def fitting(views: Sequence[View], limit: int) -> list[View]:
    """Return as many of the first views as a page takes: `limit`, and what fits into one message."""
    page: list[View] = []
    room = _PAGE_BYTES
    for view in views[:limit]:
        room -= view.ByteSize()
        if room < 0 and page:
            break
        page.append(view)
    return page


def _invalid() -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_PAGE_TOKEN_INVALID,
        "The page token is not one that this listing gave out. Start again without one.",
    )
