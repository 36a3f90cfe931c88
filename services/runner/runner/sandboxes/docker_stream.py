"""A container's streams on one connection: Docker's framing, taken apart as it is read.

Each frame has a header of eight bytes: the stream, three zeros, the length. Reading stdout is what moves the
connection on, so what nobody reads stays in the container.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from typing import Final

_HEADER: Final = struct.Struct(">BxxxL")
_STDERR: Final = 2
_STDERR_BYTES: Final = 64 * 1024


class AttachedStreams:
    """Standard streams of a container that was attached to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._left = 0
        self._stream = 0
        self._complaints = bytearray()
        self._complained = asyncio.Event()
        self.ended = asyncio.Event()

    @property
    def stdin(self) -> asyncio.StreamWriter:
        """What the command reads."""
        return self._writer

    @property
    def stdout(self) -> AttachedStreams:
        """What the command says."""
        return self

    @property
    def stderr(self) -> _Complaints:
        """The newest of what it complains about."""
        return _Complaints(self)

    async def read(self, n: int = -1) -> bytes:
        """Return the next bytes of stdout, none at the end."""
        while not self.ended.is_set():
            try:
                piece = await self._piece(n)
            except (asyncio.IncompleteReadError, OSError):
                break
            if self._stream != _STDERR:
                return piece
            self._complain(piece)
        self._end()
        return b""

    async def _piece(self, n: int) -> bytes:
        while self._left == 0:
            header = await self._reader.readexactly(_HEADER.size)
            self._stream, self._left = _HEADER.unpack(header)
        piece = await self._reader.read(self._left if n < 0 else min(n, self._left))
        if not piece:
            raise asyncio.IncompleteReadError(b"", self._left)
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        """Give the connection up, with what is still on it."""
        self._end()
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.transport.abort()

    def _end(self) -> None:
        self.ended.set()
        self._complained.set()

    def _complain(self, piece: bytes) -> None:
        self._complaints += piece
        del self._complaints[:-_STDERR_BYTES]
        self._complained.set()

    async def read_complaint(self) -> bytes:
        """Return what came on stderr since, none at the end."""
        while not self._complaints and not self.ended.is_set():
            self._complained.clear()
            await self._complained.wait()
        said = bytes(self._complaints)
        self._complaints.clear()
        return said


class _Complaints:
    def __init__(self, streams: AttachedStreams) -> None:
        self._streams = streams

    async def read(self, n: int = -1) -> bytes:
        """See ByteSource; `n` is not kept to, as there is never much."""
        return await self._streams.read_complaint()
