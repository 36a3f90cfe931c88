"""One stream of events, when its session's log grows while it is read."""

from __future__ import annotations

import asyncio
from typing import Any

from pointsman.session.v1 import event_pb2
from session.events.hub import Hub
from session.events.stream import Stream

# Longer than the test may take: were the stream to wait for it, the timeout would tell.
QUIET = 600.0


class SlowLog:
    """A database that answers each read with the next page, when the test says so."""

    def __init__(self, *pages: list[event_pb2.Event]) -> None:
        self.pages = list(pages)
        self.reading = asyncio.Event()
        self.go_on = asyncio.Event()

    async def run(self, _work: Any) -> list[event_pb2.Event]:
        page = self.pages.pop(0)
        self.reading.set()
        await self.go_on.wait()
        return page


def event(sequence: int) -> event_pb2.Event:
    return event_pb2.Event(sequence=sequence, turn="sessions/s/turns/t")


async def test_what_is_logged_elsewhere_while_the_log_is_read_is_read_at_once() -> None:
    hub, log = Hub(), SlowLog([event(1)], [event(2)])
    database: Any = log
    async with asyncio.timeout(60):
        with hub.watching("s") as watcher:
            stream = Stream(database, watcher, "s", cursor=0, turn_id="", quiet=QUIET)
            first = asyncio.ensure_future(anext(events := stream.events()))
            await log.reading.wait()
            # Another replica tells of an event that the read under way may not have seen.
            hub.wake(["s"])
            log.go_on.set()
            assert (await first).sequence == 1
            assert (await anext(events)).sequence == 2
