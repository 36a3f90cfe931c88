"""The way to the world outside, where an operator opens one: an allow-list of hosts, and nothing else.

A forward proxy on a Unix socket of each sandbox. It takes CONNECT only, to the ports of HTTP, to hosts whose
names are on the list, and only where such a name stands for a public address: a name that leads into the
operator's own network leads nowhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from runner.unix_socket import bound_socket

SOCKET_NAME: Final = "egress.sock"
SCRIPT_NAME: Final = "egress.py"
INSIDE_PORT: Final = 3128
PORTS: Final = frozenset({80, 443})
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
_REQUEST: Final = re.compile(rb"CONNECT ([A-Za-z0-9.-]{1,253}):([0-9]{1,5}) HTTP/1\.[01]\r\n")

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
    """One sandbox's way out. `allowed` are names, or `*.name` for all below; without any it never opens."""

    def __init__(self, agent_dir: Path, owner: int, allowed: Sequence[str]) -> None:
        self._agent_dir = agent_dir
        self._owner = owner
        self._allowed = [name.lower() for name in allowed]
        self._free = asyncio.Semaphore(_CONNECTIONS)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen, if anything is allowed."""
        if not self._allowed:
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
        if port not in PORTS or not allows(self._allowed, host):
            _log.info("egress_refused", host=host, port=port)
            writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            return
        async with asyncio.timeout(_CONNECT_SECONDS):
            address = await public_address(host, port)
            if address is None:
                writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
                return
            # To the address that was looked at: asked again, the name may say another.
            out_reader, out_writer = await asyncio.open_connection(address, port)
        writer.write(b"HTTP/1.1 200 Connection Established\r\n\r\n")
        try:
            await asyncio.gather(_pump(reader, out_writer), _pump(out_reader, writer))
        finally:
            out_writer.close()


def allows(allowed: Sequence[str], host: str) -> bool:
    """Return whether a name is on the list. A suffix stands for whole parts: `*.a.b` is not `evila.b`."""
    return any(host == name or (name.startswith("*.") and host.endswith(name[1:])) for name in allowed)


def is_public(address: str) -> bool:
    """Return whether an address belongs to the world outside."""
    return ipaddress.ip_address(address).is_global


async def public_address(host: str, port: int) -> str | None:
    """Return an address of a name, None when one of them is not public."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    if not addresses or not all(is_public(address) for address in addresses):
        return None
    return addresses[0]


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        async with asyncio.timeout(_IDLE_SECONDS):
            piece = await reader.read(_PIECE)
        if not piece:
            break
        writer.write(piece)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
