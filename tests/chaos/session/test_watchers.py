"""Many idle watchers cost memory once, and nobody else's time.

Small by default; CHAOS_FULL=1 is 2,000 watchers for a minute.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from pathlib import Path

import pytest
from pointsman.session.v1 import session_service_pb2
from servicekit.channels import service_channel
from servicekit.testing import wait_until
from session.clock import now
from support.session_processes import Town, town

FULL = os.environ.get("CHAOS_FULL") == "1"
WATCHERS, SECONDS = (2000, 60.0) if FULL else (200, 2.0)
# Idle is idle: at the other tests' pace 2,000 of them would be 4,000 signs of life a second, here and there.
KEEP_ALIVE = "5" if FULL else "0.5"
# Streams that one connection carries.
_ON_A_CHANNEL = 100
_AT_ONCE = 200

pytestmark = pytest.mark.heavy


def memory_mb(place: Town) -> float:
    process = place.replicas[0].process
    assert process is not None
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024 / 1024


async def test_idle_watchers_keep_memory_flat_and_calls_fast(tmp_path: Path) -> None:
    async with town(tmp_path, POINTSMAN_KEEP_ALIVE_SECONDS=KEEP_ALIVE) as place:
        client = place.client()
        turn = await client.enqueue("steps 1 0")
        await client.finish(turn)
        address = place.replicas[0].addresses[0]
        channels = [service_channel(address, signer=None) for _ in range(WATCHERS // _ON_A_CHANNEL)]
        request = session_service_pb2.WatchEventsRequest(session=turn.session)
        heard = [0] * WATCHERS

        async def watch(number: int) -> None:
            stub = type(client.sessions)(channels[number % len(channels)])
            async for _ in stub.WatchEvents(request, metadata=client.metadata, timeout=SECONDS + 120):
                heard[number] += 1

        watching: list[asyncio.Task[None]] = []
        # Opened in the same instant, gRPC's server itself cancels some of 2,000.
        for first in range(0, WATCHERS, _AT_ONCE):
            numbers = range(first, min(first + _AT_ONCE, WATCHERS))
            watching += [asyncio.create_task(watch(number)) for number in numbers]

            def open_(numbers: range = numbers) -> bool:
                return all(heard[number] for number in numbers)

            await wait_until(open_)
        # All have read the log and a first sign of life.
        await wait_until(lambda: min(heard) > turn.last_sequence + 2, 60)
        before = memory_mb(place)
        took: list[float] = []
        until = now() + SECONDS * 1e6
        while now() < until:
            began = time.monotonic()
            await client.session(turn.session)
            took.append(time.monotonic() - began)
            await asyncio.sleep(0.2)
        grown = memory_mb(place) - before
        following = await client.enqueue("steps 1 0", turn.session)
        last = (await client.finish(following)) and (await client.turn(following.name)).last_sequence
        await wait_until(lambda: all(count >= last for count in heard), 60)
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        for channel in channels:
            await channel.close(None)
        median = statistics.median(took)
        print(f"{WATCHERS} watchers: memory grew by {grown:.1f} MB, GetSession took {median:.3f} s")
        assert grown < 20
        # Another program's burst holds up one call; what watchers cost holds up all.
        assert median < 1
