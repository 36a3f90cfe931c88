"""Pieces of text that are sent live, told apart from those that a second stream sends again."""

from __future__ import annotations

from pointsman.session.v1 import event_pb2


class Deltas:
    """Remembers how much of the blocks being written has gone out.

    A stream that is taken up again in mid-block first gets the block so far from offset 0; only what is new
    of that is for the client.
    """

    def __init__(self) -> None:
        # (kind, message, block) -> characters sent. An agent writes few blocks at a time, and a finished one
        # is forgotten when it is logged.
        self._sent: dict[tuple[str, str, int], int] = {}

    def fresh(self, event: event_pb2.Event) -> bool:
        """Cut a delta down to what is new; False when nothing is. Every other event is new."""
        kind = event.WhichOneof("kind")
        if kind == "turn_started":
            # A turn that had no effect yet may start again, and then writes something else.
            self._sent.clear()
        if kind == "assistant_message":
            said = event.assistant_message
            for of in ("text_delta", "thinking_delta"):
                self._sent.pop((of, said.message_id, said.block), None)
            return True
        if kind not in ("text_delta", "thinking_delta"):
            return True
        delta = getattr(event, kind)
        field = kind.removesuffix("_delta")
        piece = getattr(delta, field)
        key = (kind, delta.message_id, delta.block)
        sent = self._sent.get(key, delta.offset)
        self._sent[key] = max(sent, delta.offset + len(piece))
        if delta.offset >= sent:
            return True
        setattr(delta, field, piece[sent - delta.offset :])
        delta.offset = sent
        return bool(getattr(delta, field))
