"""Durable means on the disk, and an orderly end costs no turn."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
from pathlib import Path

import grpc.aio
import pytest
from pointsman.session.v1 import turn_pb2
from servicekit.testing import wait_until
from support.required import lacking, program
from support.session_databases import postgres
from support.session_processes import Town, town

pytestmark = pytest.mark.heavy

_SYNC = re.compile(r"\b(?:fdatasync|fsync)\(")


class Trace:
    """The system calls of a process that put things on the disk."""

    def __init__(self, process_ids: list[int], output: Path) -> None:
        strace = program("strace", install="apt-get install strace")
        self._output = output
        followed = [argument for pid in process_ids for argument in ("-p", str(pid))]
        self._process = subprocess.Popen(
            [strace, "-f", "-e", "trace=fsync,fdatasync", "-o", str(output), *followed],
            stderr=subprocess.PIPE,
        )

    async def attached(self) -> None:
        """Return as soon as it sees calls."""
        assert self._process.stderr is not None
        line = await asyncio.to_thread(self._process.stderr.readline)
        if b"attached" not in line:
            lacking(f"strace cannot attach: {line.decode().strip()}")

    def count(self) -> int:
        """Return how often something was put on the disk so far."""
        return len(_SYNC.findall(self._output.read_text()))

    async def close(self) -> None:
        self._process.send_signal(signal.SIGINT)
        await asyncio.to_thread(self._process.wait, 10)
        assert self._process.stderr is not None
        self._process.stderr.close()


async def acknowledged_means_synced(place: Town, trace: Trace) -> None:
    """Each acknowledged turn must have been put on the disk before its acknowledgement."""
    await trace.attached()
    try:
        client = place.client()
        blocker = await client.enqueue("steps 1 30")
        async for event in client.watch(blocker.session, turn=blocker.name):
            if event.HasField("tool_use"):
                break
        for number in range(10):
            before = trace.count()
            await client.enqueue(f"steps {number} 0", blocker.session)
            assert trace.count() > before, "a turn was acknowledged before it was on the disk"
        await client.cancel(blocker.name)
    finally:
        await trace.close()


async def test_sqlite_syncs_before_a_turn_is_acknowledged(tmp_path: Path) -> None:
    async with town(tmp_path) as place:
        process = place.replicas[0].process
        assert process is not None
        await acknowledged_means_synced(place, Trace([process.pid], tmp_path / "trace"))


async def test_postgresql_syncs_before_a_turn_is_acknowledged(tmp_path: Path) -> None:
    with postgres(fsync=True) as server:
        async with town(tmp_path, server.create_database()) as place:
            # Its backends serve our connections and are there after the first call.
            await asyncio.gather(*(place.client().enqueue("steps 1 0") for _ in range(20)))
            await acknowledged_means_synced(place, Trace(server.process_ids(), tmp_path / "trace"))


async def test_an_orderly_stop_fails_no_acknowledged_turn(tmp_path: Path) -> None:
    async with town(tmp_path) as place:
        client = place.client()
        turns = [await client.enqueue("steps 8 0.2", account=f"account-{n}") for n in range(8)]
        turns += [await client.enqueue("steps 1 0", turn.session) for turn in turns]
        streams = [asyncio.create_task(_ends_typed(place, turn)) for turn in turns]
        await wait_until(lambda: sum(step == "start" for _, step, _ in place.journal()) == 8, 60)
        place.replicas[0].signal(signal.SIGTERM)
        assert await place.replicas[0].wait() == 0
        assert set(await asyncio.gather(*streams)) == {grpc.StatusCode.UNAVAILABLE}
        place.replicas[0].start()
        await place.back(0)
        for turn in turns:
            assert (await client.finish(turn)).outcome == turn_pb2.TURN_STATE_SUCCEEDED
        assert sum(step == "start" for _, step, _ in place.journal()) == len(turns)


async def _ends_typed(place: Town, turn: turn_pb2.Turn) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in place.client().watch(turn.session, turn=turn.name):
            pass
    return caught.value.code()
