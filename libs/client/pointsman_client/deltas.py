"""Pieces of text that are sent live, told apart from those that a second stream sends again."""

from __future__ import annotations

from pointsman.session.v1 import event_pb2


class Deltas:
    """Remembers how much of the blocks being written has come; a stream taken up again repeats them."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str, int], int] = {}

    def fresh(self, event: event_pb2.Event) -> bool:
        """Cut a piece down to what is new; False when nothing is. Every other event is new."""
        kind = event.WhichOneof("kind")
        if kind == "turn_started":
            # A turn that had no effect yet may start again, and then writes something else.
            self._seen.clear()
        if kind not in ("text_delta", "thinking_delta"):
            return True
        delta = getattr(event, kind)
        field = kind.removesuffix("_delta")
        piece = getattr(delta, field)
        key = (kind, delta.message_id, delta.block)
        seen = self._seen.get(key, delta.offset)
        self._seen[key] = max(seen, delta.offset + len(piece))
        if delta.offset >= seen:
            return True
        setattr(delta, field, piece[seen - delta.offset :])
        delta.offset = seen
        return bool(getattr(delta, field))
