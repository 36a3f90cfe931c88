"""Names of hosts that agents ask for, looked up where a lookup that hangs holds up nobody else.

The loop looks up few names at a time for the whole process, and cannot stop one. So what agents ask for has
threads of its own, and each sandbox few of them.
"""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Final

# A lookup takes milliseconds, or hangs for half a minute.
_THREADS: Final = 16
AT_ONCE: Final = 2
"""Lookups of one sandbox that may be under way; the next ones wait."""


class Lookups:
    """Looks names up. Close it when the last sandbox is gone."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="lookup")

    async def addresses(self, host: str, port: int, slots: asyncio.Semaphore) -> list[str]:
        """Return the addresses of a name, none when it has none.

        A call that is cancelled gives its slot back when its thread has ended, not before.
        """
        await slots.acquire()
        looking = asyncio.get_running_loop().run_in_executor(self._threads, addresses_of, host, port)
        looking.add_done_callback(lambda _: slots.release())
        return await asyncio.shield(looking)

    def close(self) -> None:
        """Begin no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def addresses_of(host: str, port: int) -> list[str]:
    """Return the addresses of a name, none when it has none. Blocks."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [str(entry[4][0]) for entry in found]
