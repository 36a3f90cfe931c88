"""What a turn has said so far, for everybody who follows it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from pointsman.runner.v1 import runner_service_pb2 as pb
from pointsman.session.v1 import event_pb2
from servicekit.errors import Failure

KEEP_ALIVE_SECONDS: Final = 15.0
LOG_BYTES: Final = 64 * 1024 * 1024
"""Of kept items. A long turn of 100 model calls with large tool results has about 5 MiB."""
DELTA_BYTES: Final = 4 * 1024 * 1024
"""Of the deltas of blocks that are being written: the longest answers of models have half a megabyte."""

_DELTAS: Final = ("text_delta", "thinking_delta")
# What a turn says or does. The rest only tells how it is getting on. The session service has the same list.
_EFFECTS: Final = frozenset(
    {
        "assistant_message",
        "tool_use",
        "tool_result",
        "file_change",
        "permission_requested",
        "permission_decided",
    }
)

_Block = tuple[str, int]
"""A message and the place of a block in it."""


class LogFull(Exception):  # noqa: N818
    """The turn has said more than one turn may."""


class TurnLog:
    """Items in order, from index 1 without gaps, and between them the deltas of blocks not yet finished.

    Kept items stay as long as the log. Deltas have index 0 and go when their block's whole text is kept:
    whoever is behind then gets the rest of it in one piece before the block, so a slow follower costs nothing
    and its pieces add up. Who comes later gets the block alone.
    """

    def __init__(self, turn: str, keep: Callable[[pb.RunTurnResponse], None]) -> None:
        """`keep` is given each kept item, in order, before anybody else gets it."""
        self._turn = turn
        self._keep = keep
        self._items: list[pb.RunTurnResponse | None] = []
        self._open: dict[_Block, list[int]] = {}
        # Kept blocks that came in pieces before, by position.
        self._pieced: set[int] = set()
        self._bytes = 0
        self._delta_bytes = 0
        self._changed = asyncio.Event()
        self._cut: Failure | None = None
        self.last_index = 0
        self.finished = False
        self.had_effect = False
        """Whether it has an item that tells of something the agent said or did."""

    @property
    def bytes(self) -> int:
        """What its kept items take."""
        return self._bytes

    def append(self, event: event_pb2.Event) -> None:
        """Add an event. Raises LogFull; `turn_finished` always fits, and nothing comes after it."""
        if self.finished or self._cut is not None:
            return
        kind = event.WhichOneof("kind")
        size = event.ByteSize()
        if kind in _DELTAS:
            self._append_delta(event, size)
            return
        if self._bytes + size > LOG_BYTES and kind != "turn_finished":
            raise LogFull
        self._bytes += size
        self.last_index += 1
        self.had_effect = self.had_effect or kind in _EFFECTS
        if kind == "assistant_message":
            self._drop_deltas((event.assistant_message.message_id, event.assistant_message.block))
        self._put(event, self.last_index)
        self.finished = kind == "turn_finished"

    def _append_delta(self, event: event_pb2.Event, size: int) -> None:
        delta = event.text_delta if event.HasField("text_delta") else event.thinking_delta
        self._delta_bytes += size
        if self._delta_bytes > DELTA_BYTES:
            raise LogFull
        self._open.setdefault((delta.message_id, delta.block), []).append(len(self._items))
        self._put(event, 0)

    def _put(self, event: event_pb2.Event, index: int) -> None:
        event.turn = self._turn
        event.create_time.CopyFrom(_now())
        item = pb.RunTurnResponse(index=index, event=event)
        if index:
            self._keep(item)
        self._items.append(item)
        self._changed.set()
        self._changed = asyncio.Event()

    def _drop_deltas(self, block: _Block) -> None:
        positions = self._open.pop(block, ())
        if positions:
            self._pieced.add(len(self._items))
        for position in positions:
            item = self._items[position]
            if item is not None:
                self._delta_bytes -= item.event.ByteSize()
            self._items[position] = None

    def cut_off(self, failure: Failure) -> None:
        """End the log without a last item: followers get the failure after what is there."""
        self._cut = failure
        self._changed.set()
        self._changed = asyncio.Event()

    async def follow(self, after_index: int) -> AsyncIterator[pb.RunTurnResponse]:
        """Yield the items after an index and what comes, to the end; `keep_alive` when it is quiet.

        Raises the failure that the log was cut off with.
        """
        position, began = 0, len(self._items)
        had: dict[_Block, int] = {}
        while True:
            while position < len(self._items):
                item = self._items[position]
                position += 1
                if item is None or 0 < item.index <= after_index:
                    continue
                live = position > began and position - 1 in self._pieced
                rest = _rest(item.event, had) if live else None
                if rest is not None:
                    yield pb.RunTurnResponse(index=0, event=rest)
                _note(item.event, had)
                yield item
            if self.finished:
                return
            if self._cut is not None:
                raise self._cut
            changed = self._changed
            try:
                async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                    await changed.wait()
            except TimeoutError:
                alive = event_pb2.Event(turn=self._turn, keep_alive=event_pb2.KeepAlive(), create_time=_now())
                yield pb.RunTurnResponse(index=0, event=alive)


def _note(event: event_pb2.Event, had: dict[_Block, int]) -> None:
    """Note how much of its block a follower has with a piece."""
    kind = event.WhichOneof("kind")
    if kind == "text_delta":
        delta = event.text_delta
        had[delta.message_id, delta.block] = delta.offset + len(delta.text)
    elif kind == "thinking_delta":
        thought = event.thinking_delta
        had[thought.message_id, thought.block] = thought.offset + len(thought.thinking)


def _rest(event: event_pb2.Event, had: dict[_Block, int]) -> event_pb2.Event | None:
    """Return the piece of a block that a follower has not got, None when it has all."""
    said = event.assistant_message
    offset = had.pop((said.message_id, said.block), 0)
    piece = event_pb2.Event(turn=event.turn, create_time=event.create_time)
    delta: event_pb2.TextDelta | event_pb2.ThinkingDelta
    if said.text[offset:]:
        delta = piece.text_delta
        delta.text = said.text[offset:]
    elif said.thinking[offset:]:
        delta = piece.thinking_delta
        delta.thinking = said.thinking[offset:]
    else:
        return None
    delta.message_id, delta.block, delta.offset = said.message_id, said.block, offset
    return piece


def _now() -> Timestamp:
    # `GetCurrentTime` goes by way of a date, at several times the cost, and there is one for each delta.
    seconds, nanos = divmod(time.time_ns(), 1_000_000_000)
    return Timestamp(seconds=seconds, nanos=nanos)
