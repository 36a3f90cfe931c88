"""The SDK's transport over a sandbox's streams. Everything that comes out of them is untrusted.

A message is one line of JSON. What a hostile program can do with lines is bounded here: their length, how
deep they nest, how many bytes come in all, how many requests wait for our answer, and how much of our time
reading them takes from other sessions.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from claude_agent_sdk import ProcessError, Transport

from runner.sandboxes.protocol import MIB, SandboxProcess

_CHUNK: Final = 256 * 1024
# What the CLI takes to read a line it asked for; a stopped one must not stop us.
_WRITE_SECONDS: Final = 30.0
# A parse that took longer is paid back by as long a pause, so that one session has half of a core at most.
_LONG_PARSE_SECONDS: Final = 0.005
_CHEAP_VALUES: Final = 50_000
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


@dataclass(frozen=True)
class StreamLimits:
    """Bounds on what one sandbox may send."""

    line_bytes: int = 64 * MIB
    """An edit of a file comes with the whole original in it, and a document as base64: 20 MB of either make a
    line of 20 to 45 MB."""
    turn_bytes: int = 512 * MIB
    """Of all lines of a turn."""
    open_requests: int = 64
    """Hook and permission calls that wait for an answer. More are not read until one is answered: a model
    may call a thousand tools in one message, and the CLI asks for all of them at once."""
    values: int = 200_000
    """Objects, lists and what is in them. Making that many takes a tenth of a second."""
    depth: int = 200
    """Nesting of objects and lists. The deepest tool input seen had 12."""


class ProtocolBroken(Exception):  # noqa: N818 - what happened, not a kind of error
    """The sandbox sent something that is not the agent's protocol."""


class OutputLimitReached(Exception):  # noqa: N818
    """The sandbox sent more than it may. The text names the limit, for a person."""


class SandboxTransport(Transport):
    """Speaks newline-separated JSON with the command in a sandbox."""

    def __init__(self, process: SandboxProcess, limits: StreamLimits | None = None) -> None:
        self._process = process
        self._limits = limits or StreamLimits()
        self._ready = False
        self._received = 0
        self._open_requests: set[str] = set()
        self._answered = asyncio.Event()
        # Those whose answers are being written, or wait for it.
        self._answering: set[str] = set()
        self._write_lock = asyncio.Lock()
        self._broken: ProtocolBroken | None = None

    async def connect(self) -> None:
        """The sandbox runs already."""
        self._ready = True

    def is_ready(self) -> bool:
        """Whether messages can be written."""
        return self._ready

    def begin_turn(self) -> None:
        """Count a new turn's bytes from 0."""
        self._received = 0

    async def write(self, data: str) -> None:
        """Write one line. TimeoutError when the sandbox does not take it, which is ended then."""
        request, begun = _request_answered(data), False
        self._answering.add(request)
        try:
            async with asyncio.timeout(_WRITE_SECONDS), self._write_lock:
                begun = True
                self._process.stdin.write(data.encode())
                await self._process.stdin.drain()
            # Not before: answers that nobody reads wait here, and each request whose answer waits is counted.
            self._close_request(request)
        except TimeoutError:
            self._broken = ProtocolBroken(f"what it was told waited {_WRITE_SECONDS:g} seconds to be read")
            await self._process.kill()
            raise
        except asyncio.CancelledError:
            if not begun:
                self._close_request(request)
            raise
        finally:
            self._answering.discard(request)

    async def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        """Yield messages until the sandbox ends; ProcessError when it ended with another code than 0."""
        pending = bytearray()
        while chunk := await self._process.stdout.read(_CHUNK):
            self._received += len(chunk)
            if self._received > self._limits.turn_bytes:
                raise OutputLimitReached(
                    f"All messages of one turn may have {self._limits.turn_bytes // MIB} MiB."
                )
            start = len(pending)
            pending += chunk
            while (end := pending.find(b"\n", start)) >= 0:
                line, start = bytes(pending[:end]), 0
                del pending[: end + 1]
                message = await self._parsed(line)
                if message is not None:
                    yield message
            self._check_length(len(pending))
        code = await self._process.wait()
        if self._broken is not None:
            raise self._broken
        if code != 0:
            raise ProcessError("the agent's process ended", exit_code=code)

    async def end_input(self) -> None:
        """Tell the command that nothing more comes."""
        with contextlib.suppress(OSError, RuntimeError):
            self._process.stdin.write_eof()

    async def close(self) -> None:
        """End the sandbox, with all that runs in it."""
        self._ready = False
        await self._process.kill()

    def _check_length(self, length: int) -> None:
        if length > self._limits.line_bytes:
            raise OutputLimitReached(f"One message may have {self._limits.line_bytes // MIB} MiB.")

    async def _parsed(self, line: bytes) -> dict[str, Any] | None:
        """Return the message; None for a line that has none, as some builds print diagnostics."""
        self._check_length(len(line))
        if not line.startswith(b"{"):
            return None
        began = time.perf_counter()
        if _has_more_values(line, self._limits.values):
            raise OutputLimitReached(f"One message may have {self._limits.values} JSON values.")
        try:
            message = json.loads(line)
        except RecursionError:
            raise self._too_deep() from None
        except ValueError as error:
            raise ProtocolBroken("a line is not JSON") from error
        if not isinstance(message, dict):
            raise ProtocolBroken("a message is no object")
        if _deeper(message, self._limits.depth):
            raise self._too_deep()
        await self._asked(message)
        took = time.perf_counter() - began
        if took > _LONG_PARSE_SECONDS:
            await asyncio.sleep(took)
        return message

    async def _room(self) -> None:
        """Wait until one request fewer waits for an answer, or the sandbox ends.

        Answers are written meanwhile, and a sandbox that does not read them is ended by that.
        """
        ended = asyncio.create_task(self._process.wait())
        try:
            while len(self._open_requests) >= self._limits.open_requests and not ended.done():
                self._answered.clear()
                answered = asyncio.create_task(self._answered.wait())
                await asyncio.wait({answered, ended}, return_when=asyncio.FIRST_COMPLETED)
                answered.cancel()
        finally:
            ended.cancel()

    def _too_deep(self) -> OutputLimitReached:
        return OutputLimitReached(f"The JSON of one message may nest {self._limits.depth} levels deep.")

    def _close_request(self, request: str) -> None:
        self._open_requests.discard(request)
        self._answered.set()

    async def _asked(self, message: dict[str, Any]) -> None:
        """Keep account of the requests that wait for an answer; wait for room for one more."""
        if message.get("type") == "control_cancel_request":
            request = message.get("request_id")
            if not isinstance(request, str):
                raise ProtocolBroken("a request is taken back by something that is no id")
            if request not in self._answering:
                self._close_request(request)
        if message.get("type") != "control_request":
            return
        if not isinstance(message.get("request_id"), str) or not isinstance(message.get("request"), dict):
            raise ProtocolBroken("a control request has no id or no body")
        if message["request_id"] in self._open_requests:
            raise ProtocolBroken("two control requests that wait have one id")
        if len(self._open_requests) >= self._limits.open_requests:
            await self._room()
        self._open_requests.add(message["request_id"])


def _request_answered(data: str) -> str:
    """Return the id of the request that a line answers; empty for any other line."""
    if data.startswith('{"type": "control_response"'):
        return str(json.loads(data)["response"].get("request_id"))
    return ""


def _has_more_values(line: bytes, limit: int) -> bool:
    """Say whether a line of JSON has more than about `limit` values, without making them."""
    if _separators(line) <= min(limit, _CHEAP_VALUES):
        return False
    # Each string is a value or a key. Counted first, it bounds the work of taking the strings out.
    if line.count(b'"') - line.count(b'\\"') > 4 * limit:
        return True
    # Files are text with commas and brackets: only what is outside of strings makes values.
    return _separators(_STRING.sub(b"", line)) > limit


def _separators(line: bytes) -> int:
    return line.count(b",") + line.count(b"[") + line.count(b"{")


def _deeper(value: Any, limit: int) -> bool:
    """Return whether objects and lists nest deeper than `limit`, without recursion of our own."""
    level: list[Any] = [value]
    for _ in range(limit):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True
