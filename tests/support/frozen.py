"""A TCP forwarder that can be frozen: it keeps its connections open, as a stopped process does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_PIECE = 65536


class Forwarder:
    """Forwards connections at `address` to a service. While frozen it takes connections and moves no byte."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.address = ""

    def freeze(self) -> None:
        """Stop moving bytes."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Go on, with what has come in meanwhile."""
        self._flowing.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        host, _, port = self._target.rpartition(":")
        try:
            await self._flowing.wait()
            inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, inner_writer))
                group.create_task(self._pump(inner_reader, writer))
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            pass  # One side is gone, or the test is over.
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(_PIECE):
                await self._flowing.wait()
                writer.write(piece)
                await writer.drain()
        finally:
            writer.close()

    def close(self) -> None:
        """End all connections."""
        for task in self._tasks:
            task.cancel()


@asynccontextmanager
async def forwarding(target: str) -> AsyncIterator[Forwarder]:
    """Run a forwarder to `host:port` on a free port of loopback."""
    forwarder = Forwarder(target)
    server = await asyncio.start_server(forwarder.serve, "127.0.0.1", 0)
    forwarder.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield forwarder
    finally:
        server.close()
        forwarder.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                await server.wait_closed()
