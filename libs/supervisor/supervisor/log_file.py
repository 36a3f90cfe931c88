"""What a process prints: all of it into a file of bounded size, and its troubles to the console."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

_MAX_BYTES: Final = 16 * 1024 * 1024
_KEEP: Final = 3
# A line longer than this is cut: a log is for reading.
_MAX_LINE: Final = 64 * 1024
_TROUBLE: Final = frozenset({"warning", "warn", "error", "critical"})
# More in ten seconds are counted, not shown: the first ones tell the story.
_SHOWN: Final = 5
_WINDOW_SECONDS: Final = 10.0


class LogFile:
    """Appends lines, and starts a new file when one is full; the newest `_KEEP` are kept."""

    def __init__(self, path: Path, max_bytes: int = _MAX_BYTES) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._file = path.open("ab", buffering=0)
        path.chmod(0o600)
        self.last_lines: deque[str] = deque(maxlen=20)
        """For the message when the process is given up on."""

    def write(self, line: bytes) -> None:
        """Append a line. One that cannot be written, because the disk is full, is lost.

        Raising would stop the reading, and with it the process that prints.
        """
        self.last_lines.append(line.decode(errors="replace"))
        with suppress(OSError):
            if self._file.closed or self._file.tell() + len(line) > self._max_bytes:
                self._rotate()
            self._file.write(line + b"\n")

    def _rotate(self) -> None:
        self._file.close()
        for age in range(_KEEP - 1, 0, -1):
            older = self.path.with_name(f"{self.path.name}.{age}")
            newer = self.path if age == 1 else self.path.with_name(f"{self.path.name}.{age - 1}")
            if newer.exists():
                newer.replace(older)
        self._file = self.path.open("ab", buffering=0)
        self.path.chmod(0o600)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Console:
    """Shows warnings and errors of one process, and not too many of them."""

    def __init__(
        self,
        service: str,
        log: Path,
        *,
        show: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service = service
        self._log = log
        self._show = show or _to_stderr
        self._clock = clock
        self._since = 0.0
        self._count = 0
        self._silent = False

    def silence(self) -> None:
        """Show nothing more: what a process says while it is being stopped is in the log only."""
        self._silent = True

    def say(self, text: str) -> None:
        """Show what the supervisor itself has to say about the process."""
        self._show(f"{self._service:<10} {text}")

    def look_at(self, line: bytes) -> None:
        """Show the line if it tells of trouble. Lines are JSON objects; any other text is not looked at."""
        trouble = _trouble(line)
        if trouble is None or self._silent:
            return
        now = self._clock()
        if now - self._since > _WINDOW_SECONDS:
            if self._count > _SHOWN:
                self._show(f"{self._service:<10} … and {self._count - _SHOWN} more: {self._log}")
            self._since, self._count = now, 0
        self._count += 1
        if self._count <= _SHOWN:
            self._show(f"{self._service:<10} {trouble}")


def _to_stderr(text: str) -> None:
    # Nobody reads any more; the log has it.
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _trouble(line: bytes) -> str | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict) or entry.get("level") not in _TROUBLE:
        return None
    facts = " ".join(
        f"{name}={entry[name]}" for name in ("method", "code", "reason", "error") if entry.get(name)
    )
    return f"{entry['level']:<8} {str(entry.get('event', ''))[:400]} {facts}".rstrip()


async def copy_lines(output: asyncio.StreamReader, log: LogFile, console: Console) -> None:
    """Copy a process's output line by line until it ends."""
    rest = b""
    while chunk := await output.read(64 * 1024):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            log.write(line[:_MAX_LINE])
            console.look_at(line)
        if len(rest) > _MAX_LINE:
            log.write(rest[:_MAX_LINE])
            rest = b""
    if rest:
        log.write(rest)
