"""Images and documents in a request: base64 that is what it says it is, before a provider gets it."""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Any, Final

from llm_proxy.messages.invalid import invalid

# Anthropic's limit for one image; a document may fill the whole request.
_IMAGE_BYTES: Final = 5 * 1024 * 1024
_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
# The interpreter's lock is given up between two of these.
_PIECE: Final = 1024 * 1024
_START: Final = 32

_IMAGES: Final[Mapping[str, tuple[bytes, ...]]] = {
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/webp": (b"RIFF",),
}
_DOCUMENTS: Final[Mapping[str, tuple[bytes, ...]]] = {"application/pdf": (b"%PDF-",)}


def check_base64(place: str, block_type: str, source: Mapping[str, Any]) -> None:
    """Raise Failure INVALID_FIELD unless a base64 source holds what its `media_type` says."""
    known = _IMAGES if block_type == "image" else _DOCUMENTS
    kind = source.get("media_type")
    if not isinstance(kind, str) or kind not in known:
        raise invalid(f"{place}.media_type", f"must be one of {', '.join(sorted(known))}")
    data = source.get("data")
    if not isinstance(data, str) or not data:
        raise invalid(f"{place}.data", "must be a text in base64")
    if block_type == "image" and len(data) > _IMAGE_BYTES:
        raise invalid(f"{place}.data", f"has {len(data)} bytes of base64; an image may have {_IMAGE_BYTES}")
    _check_alphabet(place, data)
    start = binascii.a2b_base64(data[:_START])
    if not start.startswith(known[kind]) or (kind == "image/webp" and start[8:12] != b"WEBP"):
        raise invalid(f"{place}.data", f"is not {kind}: it begins differently")


def _check_alphabet(place: str, data: str) -> None:
    for at in range(0, len(data), _PIECE):
        piece = data[at : at + _PIECE]
        rest = piece.encode("ascii", "replace").translate(None, _ALPHABET)
        ends = at + _PIECE >= len(data)
        if rest and not (ends and rest in (b"=", b"==") and piece.endswith(rest.decode())):
            raise invalid(f"{place}.data", "is not base64: it holds other characters, such as white space")
    if len(data) % 4 or len(data) < _START:
        raise invalid(
            f"{place}.data", "is not base64: its length is not a multiple of four, or it is cut off"
        )
