"""A sandbox's relay on its socket, before an upstream that writes down every byte it gets."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.relay.grant import Grant
from runner.relay.relay import Relay

TOKEN = "pst_test_0123456789"


@dataclass
class Raw:
    """One answer as it came over a socket."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def error(self) -> Any:
        """The error in it, which must have Anthropic's shape."""
        data = json.loads(self.body)
        assert data["type"] == "error"
        return data["error"]


@dataclass
class RecordingUpstream:
    """Takes requests and keeps what each connection brought. `early` answers 403 before reading a body."""

    connections: list[bytearray] = field(default_factory=list)
    early: bool = False
    cut: bool = False
    """Close the connection after each answer."""
    answer: bytes = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
    url: str = ""

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        kept = bytearray()
        self.connections.append(kept)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                kept += head
                if self.early:
                    writer.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\n{}")
                else:
                    kept += await _body(reader, head.lower())
                    writer.write(self.answer)
                await writer.drain()
                if self.cut:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    @property
    def requests(self) -> int:
        """How many requests came."""
        return sum(kept.count(b"POST /v1/") + kept.count(b"GET /v1/") for kept in self.connections)


async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    if b"transfer-encoding: chunked" in head:
        return await reader.readuntil(b"0\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return await reader.readexactly(int(line.partition(b":")[2]))
    return b""


@asynccontextmanager
async def recording_upstream() -> AsyncIterator[RecordingUpstream]:
    """Run one on loopback."""
    upstream = RecordingUpstream()
    server = await asyncio.start_server(upstream.take, "127.0.0.1", 0, limit=64 * 1024 * 1024)
    port = server.sockets[0].getsockname()[1]
    upstream.url = f"http://127.0.0.1:{port}"
    try:
        yield upstream
    finally:
        server.close()


@asynccontextmanager
async def relay(folder: Path, url: str, token: str = TOKEN) -> AsyncIterator[Path]:
    """Run a relay in a folder, with a turn running; give its socket."""
    folder.mkdir(exist_ok=True)  # noqa: ASYNC240 - a moment, in a test
    opened = Relay(folder, os.getuid(), url)

    async def known() -> str:
        return token

    opened.grant = Grant(lambda: asyncio.ensure_future(known()), lambda _kind, _values: None)
    await opened.open()
    try:
        yield folder / "llm.sock"
    finally:
        opened.grant.close()
        await opened.close()


async def send(socket: Path, *pieces: bytes, end: bool = False) -> list[Raw]:
    """Send bytes over one connection; return every answer until it is closed, or answers all requests."""
    reader, writer = await asyncio.open_unix_connection(socket, limit=64 * 1024 * 1024)
    answers: list[Raw] = []
    try:
        async with asyncio.timeout(60):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            if end:
                writer.write_eof()
            while head := await _head(reader):
                answers.append(await _answer(reader, head))
                if not end and len(answers) == sum(piece.count(b" HTTP/1.") for piece in pieces):
                    break
    except ConnectionError:
        # The other side closed while there was something left to send.
        pass
    finally:
        writer.close()
    return answers


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        return error.partial


async def _answer(reader: asyncio.StreamReader, head: bytes) -> Raw:
    first, *lines = head.decode().rstrip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    status = int(first.split()[1])
    if status == 100:
        return await _answer(reader, await reader.readuntil(b"\r\n\r\n"))
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Raw(status, headers, body)
