"""Keeps one service running."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.backoff import Backoff
from supervisor.log_file import Console, LogFile
from supervisor.process import Process
from supervisor.refusal import Refusal

# llm-proxy imports for three seconds on an idle machine; a busy one takes its time.
_START_SECONDS: Final = 90.0
# How often a service is asked whether it is well, and how long it may take to say so: a call takes a
# millisecond, on a machine that swaps a second. One that hangs is no better than one that died.
_LOOK_SECONDS: Final = 5.0
_SILENT_SECONDS: Final = 30.0
# What a service is configured with is wrong: starting it again helps nobody.
_EXIT_CONFIG: Final = 2


@dataclass(frozen=True)
class Service:
    """What to run, and how it shows that it is well."""

    name: str
    command: Sequence[str]
    environ: Mapping[str, str]
    healthy: Callable[[], Awaitable[None]]
    """Returns once the service answers; asks until then."""
    folder: Path | None = None
    """Where it is started; None for where we are."""
    stop_stage: int = 0
    """Services of one stage are asked to stop together, when those of the stages before have ended."""


class Keeper:
    """Runs a service, and again when it dies or does not answer any more, until it is stopped."""

    def __init__(self, service: Service, log: LogFile, console: Console, starting: asyncio.Lock) -> None:
        """`starting` is held while a process is being started and its id is not known yet."""
        self.service = service
        self._log = log
        self._console = console
        self._starting = starting
        self._backoff = Backoff()
        self._process: Process | None = None
        self._stopping = asyncio.Event()
        self.ready = asyncio.Event()
        """Set while the service is healthy, as far as we know."""

    @property
    def pid(self) -> int | None:
        """The id of its process; None between two."""
        return None if self._process is None else self._process.pid

    async def keep(self) -> None:
        """Run the service until `stop`. Raises Refusal when it dies over and over, with its last words."""
        ever_served = False
        while not self._stopping.is_set():
            started = time.monotonic()
            process = await self._start()
            served = await self._serve(process)
            self.ready.clear()
            if self._stopping.is_set():
                return
            ever_served = ever_served or served > 0
            delay = self._backoff.died(served, time.monotonic() - started)
            if delay is None or (process.exit_code == _EXIT_CONFIG and not ever_served):
                raise Refusal(self._last_words(process))
            self._console.say(f"{_ending(process)}; starting it again in {delay:.1f} s")
            await asyncio.sleep(delay)

    async def _start(self) -> Process:
        async with self._starting:
            service = self.service
            process = await Process.start(
                service.command, service.environ, self._log, self._console, service.folder
            )
            self._process = process
        if self._stopping.is_set():
            process.kill()
        return process

    async def _serve(self, process: Process) -> float:
        """Return when the process has ended: the seconds that it was healthy."""
        healthy = asyncio.ensure_future(self.service.healthy())
        ended = asyncio.create_task(process.wait())
        watching = None
        try:
            await asyncio.wait({healthy, ended}, timeout=_START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return 0.0
            if not healthy.done():
                self._log.write(f"not healthy after {_START_SECONDS:.0f} s".encode())
                process.kill()
                await ended
                return 0.0
            await healthy
            since = time.monotonic()
            self.ready.set()
            watching = asyncio.create_task(self._watch(process))
            await ended
            return time.monotonic() - since
        finally:
            for task in (healthy, ended, watching):
                if task is not None:
                    task.cancel()

    async def _watch(self, process: Process) -> None:
        """Ask for ever whether the service is well; end it when it has not answered for too long."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                async with asyncio.timeout(_SILENT_SECONDS):
                    await self.service.healthy()
            except TimeoutError:
                word = f"has not answered for {_SILENT_SECONDS:g} s and is ended"
                self._log.write(word.encode())
                self._console.say(word)
                process.kill()
                return

    def _last_words(self, process: Process) -> str:
        lines = "\n".join(f"    {line}" for line in self._log.last_lines)
        return (
            f"{self.service.name} {_ending(process)} and is not started again. "
            f"Its last lines ({self._log.path}):\n{lines}"
        )

    async def stop(self, grace: float) -> None:
        """End the service for good; it has `grace` seconds to end by itself."""
        self._stopping.set()
        self._console.silence()
        async with self._starting:
            process = self._process
        if process is not None:
            await process.stop(grace)

    def kill(self) -> None:
        """End the service for good, now."""
        self._stopping.set()
        if self._process is not None:
            self._process.kill()


def _ending(process: Process) -> str:
    code = process.exit_code or 0
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
