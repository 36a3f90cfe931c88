"""One process: started so that it cannot outlive us, and stopped for certain."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from supervisor.log_file import Console, LogFile, copy_lines
from supervisor.refusal import Refusal

# After SIGKILL only the kernel is in the way.
_KILLED_SECONDS: Final = 10.0


class Process:
    """A running process, the leader of a session and process group of its own.

    A Ctrl-C at the terminal reaches only us, and we stop the processes in order. If we die without a word,
    the kernel kills them (PR_SET_PDEATHSIG, set by `setpriv`, which then becomes the program).
    """

    def __init__(self, process: asyncio.subprocess.Process, copying: asyncio.Task[None]) -> None:
        self._process = process
        self._copying = copying

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        environ: Mapping[str, str],
        log: LogFile,
        console: Console,
        folder: Path | None = None,
    ) -> Process:
        """Start a command with exactly this environment; its output goes to the log."""
        try:
            process = await asyncio.create_subprocess_exec(
                *("setpriv", "--pdeathsig", "KILL", "--", *command),
                env=dict(environ),
                cwd=folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise Refusal("setpriv is missing; install util-linux: apt-get install util-linux") from None
        assert process.stdout is not None  # noqa: S101 - asked for two lines above
        return cls(process, asyncio.create_task(copy_lines(process.stdout, log, console)))

    @property
    def pid(self) -> int:
        """Its id, which is its group's, too."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for the signal that ended it."""
        return self._process.returncode

    async def wait(self) -> int:
        """Return its exit code when it has ended and what it printed is in the log."""
        code = await self._process.wait()
        # Something it had started may hold the pipe open; its group goes with it.
        self._signal_group(signal.SIGKILL)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._copying, 2)
        return code

    async def stop(self, grace: float) -> None:
        """Ask it to end, and kill it and its group when it has not after `grace` seconds."""
        if self.exit_code is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.wait(), grace)
        except TimeoutError:
            self.kill()
            await asyncio.wait_for(self.wait(), _KILLED_SECONDS)

    def kill(self) -> None:
        """End it and its group now."""
        self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)
