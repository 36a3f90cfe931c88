"""Page tokens: where the next page begins, for this server to read and nobody to rely on."""

from __future__ import annotations

import base64
import binascii
import json

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure


def page_token(listing: str, *place: int | str) -> str:
    """Return the token for a place in a listing."""
    return base64.urlsafe_b64encode(json.dumps([listing, *place]).encode()).decode().rstrip("=")


def place_of(token: str, listing: str, *types: type) -> tuple[int | str, ...] | None:
    """Return the place, None for the empty token; raises Failure PAGE_TOKEN_INVALID for any other's."""
    if not token:
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (binascii.Error, ValueError):
        found = None
    if not isinstance(found, list) or [type(part) for part in found] != [str, *types] or found[0] != listing:
        raise Failure(
            errors_pb2.ERROR_REASON_PAGE_TOKEN_INVALID,
            "This page token was not given out for this listing. Begin again without one.",
        )
    return tuple(found[1:])
