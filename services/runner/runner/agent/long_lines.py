"""Lines of a transcript that are longer than one message: kept in parts, or cut where there is no room.

A part is no JSON: it begins with a zero byte, then `ID NUMBER COUNT` and a line feed, then its bytes. The
session service keeps lines as they are, and so it keeps parts.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, Final

from pointsman.session.v1 import transcript_service_pb2 as pb

PART_BYTES: Final = 1536 * 1024
"""Of a line that is kept in one piece, and of a part. A message has 4 MiB."""
_MARK: Final = b"\0"
# What is cut of a line that cannot be kept whole: documents, pictures, and texts above this many characters.
_KEPT_CHARACTERS: Final = 16 * 1024


def entries_of(line: bytes, line_uuid: str) -> Iterator[pb.TranscriptEntry]:
    """Yield what a line is kept as: itself, or its parts in order, each with an id of its own."""
    if len(line) <= PART_BYTES:
        yield pb.TranscriptEntry(uuid=line_uuid, json=line)
        return
    name = line_uuid or str(uuid.uuid4())
    count = -(-len(line) // PART_BYTES)
    for number in range(count):
        head = _MARK + f"{name} {number} {count}\n".encode()
        piece = line[number * PART_BYTES : (number + 1) * PART_BYTES]
        yield pb.TranscriptEntry(uuid=line_uuid and f"{line_uuid}#{number}", json=head + piece)


def joined(kept: Iterable[bytes], session_id: str) -> list[bytes]:
    """Return the lines that were kept, in order. A line of which a part is missing is left out.

    Lines that were in parts say that they are of this session, whatever session they were copied from.
    """
    lines: list[bytes] = []
    parts: dict[int, bytes] = {}
    open_name = b""
    for piece in kept:
        if not piece.startswith(_MARK):
            lines.append(piece)
            continue
        head, _, data = piece[1:].partition(b"\n")
        name, number, count = head.rsplit(b" ", 2)
        if name != open_name:
            # Else it may be a second try of the same line.
            open_name, parts = name, {}
        parts[int(number)] = data
        if len(parts) == int(count):
            lines.append(_of_session(b"".join(parts[at] for at in range(int(count))), session_id))
            open_name, parts = b"", {}
    return lines


def _of_session(line: bytes, session_id: str) -> bytes:
    entry = json.loads(line)
    if entry.get("sessionId") in (None, session_id):
        return line
    return json.dumps(entry | {"sessionId": session_id}, separators=(",", ":")).encode()


def cut(value: Any) -> Any:
    """Return an entry without what makes it long: each such part is a note that says what was there."""
    if isinstance(value, list):
        return [cut(item) for item in value]
    if isinstance(value, str) and len(value) > _KEPT_CHARACTERS:
        return f"{value[:_KEPT_CHARACTERS]}\n[{len(value)} characters were here. {_NOTE}]"
    if not isinstance(value, dict):
        return value
    source = value.get("source")
    data = source.get("data") if isinstance(source, dict) else None
    if isinstance(data, str) and len(data) > _KEPT_CHARACTERS:
        kind = value.get("type")
        return {"type": "text", "text": f"[A {kind} of {len(data)} characters was here. {_NOTE}]"}
    return {name: cut(item) for name, item in value.items()}


_NOTE: Final = (
    "It was not kept: this conversation has as much as a session may keep. Read it again if you need it."
)
