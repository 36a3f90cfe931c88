"""A sandbox that is a process of this machine, with pipes to it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Sequence
from typing import Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from runner.sandboxes.protocol import Limits

# bubblewrap's `--die-with-parent` needs no time of its own; this is for a machine under load.
_KILL_SECONDS: Final = 10.0
# A pipe holds 64 KiB; so may what was read of it and not yet taken.
_STREAM_LIMIT: Final = 64 * 1024
_SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class LocalProcess:
    """A launcher that became bubblewrap. Killing it kills all that is inside: bubblewrap sees to that."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise ValueError("the process has no pipes")
        self._process = process
        self.stdin: asyncio.StreamWriter = process.stdin
        self.stdout: asyncio.StreamReader = process.stdout
        self.stderr: asyncio.StreamReader = process.stderr

    @classmethod
    async def start(cls, argv: Sequence[str], limits: Limits) -> LocalProcess:
        """Start the launcher; raises Failure SANDBOX_START_FAILED."""
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=_STREAM_LIMIT,
                # Nothing of ours: /proc/1/environ inside shows what bubblewrap was started with.
                env={"PATH": _SYSTEM_PATH},
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise Failure(
                errors_pb2.ERROR_REASON_SANDBOX_START_FAILED,
                f"The sandbox's launcher {argv[0]} did not start: {error.strerror}.",
            ) from error
        return cls(process)

    async def wait(self) -> int:
        """See SandboxProcess."""
        return await self._process.wait()

    async def kill(self) -> None:
        """See SandboxProcess."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        async with asyncio.timeout(_KILL_SECONDS):
            await self._process.wait()
        self.stdin.close()

    async def pause(self) -> None:
        """See SandboxProcess."""
        self._signal(signal.SIGSTOP)

    async def resume(self) -> None:
        """See SandboxProcess."""
        self._signal(signal.SIGCONT)

    def memory_bytes(self) -> int:
        """See SandboxProcess."""
        return 0

    def out_of_memory(self) -> bool:
        """See SandboxProcess."""
        return False

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
