"""The way to the world outside, where an operator opens one and a session asks for it: to hosts by name.

A forward proxy on a Unix socket of each sandbox. It takes CONNECT only, to hosts that the session names, on
ports that the operator lists, and only where such a name stands for public addresses alone: a name that leads
into the operator's own network leads nowhere, whatever it said when it was asked before.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog
from servicekit.addresses import is_public

from runner.egress.egress_lookup import AT_ONCE, Lookups
from runner.egress.egress_rules import EgressList, allows
from runner.relay.unix_socket import bound_socket

SOCKET_NAME: Final = "egress.sock"
SCRIPT_NAME: Final = "egress.py"
INSIDE_PORT: Final = 3128
_INSIDE_PROXY: Final = f"http://127.0.0.1:{INSIDE_PORT}"
_NOT_BY_PROXY: Final = "localhost,127.0.0.1"
PROXY_VARIABLES: Final = {
    **dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), _INSIDE_PROXY),
    **dict.fromkeys(("NO_PROXY", "no_proxy"), _NOT_BY_PROXY),
}
"""What programs in the sandbox find the proxy by."""
# A package manager opens some ten at once.
_CONNECTIONS: Final = 64
_HEAD_BYTES: Final = 8192
_HEAD_SECONDS: Final = 10.0
_CONNECT_SECONDS: Final = 10.0
_IDLE_SECONDS: Final = 300.0
_PIECE: Final = 64 * 1024
_FORBIDDEN: Final = b"HTTP/1.1 403 Forbidden\r\n\r\n"
_LABEL: Final = rb"[A-Za-z0-9_-]{1,63}"
_REQUEST: Final = re.compile(
    rb"CONNECT (?=.{1,253}:)(%b(?:\.%b)*):([0-9]{1,5}) HTTP/1\.[01]\r\n" % (_LABEL, _LABEL)
)

INSIDE: Final = f'''\
"""Hands loopback connections on to the sandbox's door: few programs can use a proxy on a Unix socket."""
import asyncio

async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()

async def serve(reader, writer):
    try:
        out_reader, out_writer = await asyncio.open_unix_connection("/run/agent/{SOCKET_NAME}")
    except OSError:
        writer.close()
        return
    await asyncio.gather(pump(reader, out_writer), pump(out_reader, writer))

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", {INSIDE_PORT})
    await server.serve_forever()

asyncio.run(main())
'''

_log = structlog.get_logger("runner.egress")


class EgressProxy:
    """One sandbox's way out, to `hosts` out of what is `listed`. Without hosts it never opens."""

    def __init__(
        self, agent_dir: Path, owner: int, listed: EgressList, hosts: Sequence[str], lookups: Lookups
    ) -> None:
        self._agent_dir = agent_dir
        self._owner = owner
        self._listed = listed
        self._hosts = hosts
        self._lookups = lookups
        self._lookup_slots = asyncio.Semaphore(AT_ONCE)
        self.session = ""
        """Whose it is, for the log."""
        self._free = asyncio.Semaphore(_CONNECTIONS)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen, if there is anything to reach."""
        if not self._hosts:
            return
        (self._agent_dir / SCRIPT_NAME).write_text(INSIDE)
        listener = bound_socket(self._agent_dir, SOCKET_NAME, self._owner)
        self._server = await asyncio.start_unix_server(self._accept, sock=listener, limit=_HEAD_BYTES)

    async def close(self) -> None:
        """Stop listening and cut what is open."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self._free.locked():
            writer.close()
            return
        try:
            async with self._free:
                await self._serve(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_HEAD_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
        asked = _REQUEST.match(head)
        host, port = (asked[1].decode().lower(), int(asked[2])) if asked else ("", 0)
        log = _log.bind(session=self.session, host=host, port=port)
        if not (allows(self._hosts, host) and self._listed.allows(host, port)):
            log.info("egress_refused", why="not on the list")
            writer.write(_FORBIDDEN)
            return
        async with asyncio.timeout(_CONNECT_SECONDS):
            addresses = await self._lookups.addresses(host, port, self._lookup_slots)
            if not addresses or not all(is_public(address) for address in addresses):
                log.info("egress_refused", why="no public address")
                writer.write(_FORBIDDEN)
                return
            out_reader, out_writer = await _connected(addresses, port)
        log.info("egress")
        writer.write(b"HTTP/1.1 200 Connection Established\r\n\r\n")
        try:
            await _carry((reader, out_writer), (out_reader, writer))
        finally:
            out_writer.close()


async def _connected(
    addresses: Sequence[str], port: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the first that answers of the addresses that were looked at: asked again, the name may say
    others."""
    for address in addresses[:-1]:
        with contextlib.suppress(OSError):
            return await asyncio.open_connection(address, port)
    return await asyncio.open_connection(addresses[-1], port)


async def _carry(*ways: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
    """Carry bytes both ways until both have ended, one breaks, or neither has moved any for long."""
    moved = _Moved()
    pumps = {asyncio.create_task(_pump(reader, writer, moved)) for reader, writer in ways}
    left = set(pumps)
    try:
        while left and moved.seconds_ago() < _IDLE_SECONDS:
            done, left = await asyncio.wait(
                left, timeout=_IDLE_SECONDS - moved.seconds_ago(), return_when=asyncio.FIRST_COMPLETED
            )
            for pump in done:
                pump.result()
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


class _Moved:
    """When a connection has last moved something."""

    def __init__(self) -> None:
        self.now()

    def now(self) -> None:
        self._at = time.monotonic()

    def seconds_ago(self) -> float:
        return time.monotonic() - self._at


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, moved: _Moved) -> None:
    while piece := await reader.read(_PIECE):
        moved.now()
        writer.write(piece)
        await writer.drain()
        moved.now()
    with contextlib.suppress(OSError):
        writer.write_eof()
