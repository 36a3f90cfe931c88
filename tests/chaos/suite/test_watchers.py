"""Idle watchers through the edge cost memory once, and nobody else's time.

Small by default; `make chaos` has 2,000 of them for a minute.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from pathlib import Path

import grpc
import grpc.aio
import pytest
from pointsman.session.v1 import session_service_pb2, session_service_pb2_grpc
from pointsman_client import AsyncClient
from servicekit.testing import wait_until
from support.suite import Suite

FULL = os.environ.get("CHAOS_FULL") == "1"
WATCHERS, SECONDS = (2000, 60.0) if FULL else (100, 2.0)
# Half of what the edge takes on one connection.
_ON_A_CHANNEL = 50
# gRPC's own server refuses some of thousands that come in one instant.
_AT_ONCE = 100

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(400)]


def memory_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024 / 1024


async def test_idle_watchers_through_the_edge_keep_memory_flat_and_calls_fast(suite: Suite) -> None:
    # Channels of one process share connections unless they are told not to.
    options = [("grpc.use_local_subchannel_pool", 1)]
    key = (("authorization", f"Bearer {suite.key}"),)
    async with AsyncClient(suite.url, suite.key) as client:
        # A session with something in its log, so that each watcher hears of it at once.
        told = [event async for event in client.run_turn("What is 2+2?")]
        session = told[-1].turn.partition("/turns/")[0]
        asked = session_service_pb2.GetSessionRequest(name=session)
        channels = [
            grpc.aio.insecure_channel(f"127.0.0.1:{suite.port}", options=options)
            for _ in range(WATCHERS // _ON_A_CHANNEL)
        ]
        heard = [0] * WATCHERS

        async def watch(number: int) -> None:
            stub = session_service_pb2_grpc.SessionServiceStub(channels[number // _ON_A_CHANNEL])
            request = session_service_pb2.WatchEventsRequest(session=session)
            async for _ in stub.WatchEvents(request, metadata=key, timeout=SECONDS + 200):
                heard[number] += 1

        watching: list[asyncio.Task[None]] = []
        for number in range(WATCHERS):
            watching.append(asyncio.create_task(watch(number)))
            if len(watching) % _AT_ONCE == 0:
                await wait_until(lambda: all(heard[: len(watching)]), 60)
        took: list[float] = []
        before, until = memory_mb(suite.pid("session")), time.monotonic() + SECONDS
        while time.monotonic() < until:
            began = time.monotonic()
            await client.sessions.GetSession(asked, timeout=60)
            took.append(time.monotonic() - began)
            await asyncio.sleep(0.2)
        grown = memory_mb(suite.pid("session")) - before
        assert not any(task.done() for task in watching)
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        for channel in channels:
            await channel.close(None)
    median = statistics.median(took)
    print(f"{WATCHERS} watchers: the session service grew by {grown:.1f} MB, GetSession took {median:.3f} s")
    assert grown < 20
    # Another program's burst holds up one call; what watchers cost holds up all.
    assert median < 1
