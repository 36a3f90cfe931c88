"""Names of hosts that agents ask for, looked up where a lookup that hangs holds up nobody else.

The loop looks up few names at a time for the whole process, and cannot stop one. So what agents ask for has
threads of its own, and each sandbox few of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import Final

# A lookup takes milliseconds, or hangs for half a minute.
_THREADS: Final = 16
AT_ONCE: Final = 2
"""Lookups of one sandbox that may be under way; the next ones wait."""


class Lookups:
    """Looks names up. Its threads are not waited for when the process ends."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(_THREADS)

    async def addresses(self, host: str, port: int, slots: asyncio.Semaphore) -> list[str]:
        """Return the addresses of a name, none when it has none.

        A call that is cancelled gives its slot back when its thread has ended, not before.
        """
        await slots.acquire()
        try:
            await self._free.acquire()
        except asyncio.CancelledError:
            slots.release()
            raise
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()

        def ended(found: list[str]) -> None:
            self._free.release()
            slots.release()
            if not answer.done():
                answer.set_result(found)

        def look() -> None:
            found: list[str] = []
            try:
                found = addresses_of(host, port)
            finally:
                # When the loop is closed, nobody wants to know.
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(ended, found)

        threading.Thread(target=look, name="lookup", daemon=True).start()
        return await answer


def addresses_of(host: str, port: int) -> list[str]:
    """Return the addresses of a name, none when it has none. Blocks."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [str(entry[4][0]) for entry in found]
