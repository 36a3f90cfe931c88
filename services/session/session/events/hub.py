"""Watchers of this replica: each gets every event once and in order, and none waits for another.

What a watcher has not taken yet is kept for it up to a bound; past that it is told to read from the log
again. Pieces of a block that is being written are joined while they wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from pointsman.session.v1 import event_pb2

from session.events.blocks import Blocks, joined
from session.metrics import metrics

# Per watcher: some seconds of a busy turn. A watcher further behind reads from the log.
_MAX_ITEMS: Final = 512
_MAX_BYTES: Final = 1024 * 1024


class Watcher:
    """One stream's view of a session. Changed by the hub, emptied by the stream."""

    def __init__(self, topic: _Topic) -> None:
        self._topic = topic
        self._pending: list[event_pb2.Event] = []
        self._bytes = 0
        self._live = False
        self.behind = True
        """Whether events must be read from the log before what is pending means anything."""
        self.wake = asyncio.Event()
        self.ended: Exception | None = None
        """Why the stream must end, None while it goes on."""

    def catch_up(self) -> None:
        """Begin to read from the log: what is logged from now on will be pending."""
        self._pending.clear()
        self._bytes = 0
        self._live = False
        self.behind = False
        self.wake.clear()

    def go_live(self) -> None:
        """The log is read to its end: take deltas from now on, and first the blocks being written."""
        self._live = True
        for block in self._topic.blocks.snapshot():
            self._push(block)

    def take(self) -> list[event_pb2.Event]:
        """Return what is pending, oldest first."""
        taken, self._pending, self._bytes = self._pending, [], 0
        self.wake.clear()
        return taken

    def add(self, event: event_pb2.Event) -> None:
        """Hand over one event, logged or live."""
        if self.behind or (event.sequence == 0 and not self._live):
            return
        last = self._pending[-1] if self._pending else None
        merged = joined(last, event) if last is not None else None
        if merged is not None:
            self._pending[-1] = merged
            self._bytes += event.ByteSize()
            self.wake.set()
        else:
            self._push(event)
        if len(self._pending) > _MAX_ITEMS or self._bytes > _MAX_BYTES:
            self.fall_behind()

    def _push(self, event: event_pb2.Event) -> None:
        self._pending.append(event)
        self._bytes += event.ByteSize()
        self.wake.set()

    def fall_behind(self) -> None:
        """Make the stream read from the log."""
        self.behind = True
        self._pending.clear()
        self._bytes = 0
        self.wake.set()

    def end(self, error: Exception) -> None:
        """Make the stream end with an error."""
        self.ended = error
        self.wake.set()


class _Topic:
    """A session that somebody watches or that writes a block."""

    def __init__(self) -> None:
        self.watchers: set[Watcher] = set()
        self.blocks = Blocks()
        self.head = 0
        """Newest sequence that was handed to the watchers; 0 before the first."""


class Hub:
    """The sessions that are watched here."""

    def __init__(self) -> None:
        self._topics: dict[str, _Topic] = {}
        self._closed: Exception | None = None

    @contextmanager
    def watching(self, session_id: str) -> Iterator[Watcher]:
        """Join the watchers of a session."""
        topic = self._topics.setdefault(session_id, _Topic())
        watcher = Watcher(topic)
        topic.watchers.add(watcher)
        if self._closed is not None:
            watcher.end(self._closed)
        try:
            with metrics().watching():
                yield watcher
        finally:
            topic.watchers.discard(watcher)
            self._drop_if_unused(session_id, topic)

    def publish(self, session_id: str, events: Sequence[event_pb2.Event]) -> None:
        """Hand over events that are in the log. None at all: something is there, look for yourselves."""
        topic = self._topics.get(session_id)
        if topic is None:
            return
        if not events:
            self._all_behind(topic)
        for event in events:
            if topic.head and event.sequence > topic.head + 1:
                # Somebody else wrote between: the watchers read it from the log.
                self._all_behind(topic)
            if event.sequence <= topic.head:
                continue
            topic.head = event.sequence
            topic.blocks.finish(event)
            for watcher in topic.watchers:
                watcher.add(event)
        self._drop_if_unused(session_id, topic)

    def publish_delta(self, session_id: str, event: event_pb2.Event) -> None:
        """Hand over a piece of a block. What of it came before is cut off."""
        topic = self._topics.setdefault(session_id, _Topic())
        fresh = topic.blocks.extend(event)
        if fresh is not None:
            for watcher in topic.watchers:
                watcher.add(fresh)

    def drop_blocks(self, session_id: str) -> None:
        """Nobody here writes the session's blocks any more."""
        topic = self._topics.get(session_id)
        if topic is not None:
            topic.blocks = Blocks()
            self._drop_if_unused(session_id, topic)

    def wake(self, session_ids: Iterable[str]) -> None:
        """Another replica wrote to these sessions."""
        for session_id in session_ids:
            topic = self._topics.get(session_id)
            if topic is not None:
                self._all_behind(topic)

    def wake_all(self) -> None:
        """Messages may have been missed."""
        self.wake(list(self._topics))

    def end(self, session_id: str, error: Exception) -> None:
        """End a session's streams, after what is pending."""
        topic = self._topics.get(session_id)
        for watcher in topic.watchers if topic is not None else ():
            watcher.end(error)

    def close(self, error: Exception) -> None:
        """End all streams, and those that come."""
        self._closed = error
        for session_id in list(self._topics):
            self.end(session_id, error)

    def _all_behind(self, topic: _Topic) -> None:
        for watcher in topic.watchers:
            watcher.fall_behind()

    def _drop_if_unused(self, session_id: str, topic: _Topic) -> None:
        if not topic.watchers and not topic.blocks and self._topics.get(session_id) is topic:
            del self._topics[session_id]
