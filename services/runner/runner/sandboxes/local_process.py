"""A sandbox that is a process of this machine, with pipes to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import Process, SubprocessStreamProtocol
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import structlog
from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from runner.sandboxes.cgroup import Cgroup

# bubblewrap's `--die-with-parent` needs no time of its own; this is for a machine under load.
_KILL_SECONDS: Final = 10.0
# A pipe holds 64 KiB; so may what was read of it and not yet taken.
_STREAM_LIMIT: Final = 64 * 1024
_SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


_log = structlog.get_logger("runner.sandboxes")


class LocalProcess:
    """A launcher that became bubblewrap. Killing it kills all that is inside: bubblewrap sees to that."""

    def __init__(
        self, process: Process, transport: asyncio.SubprocessTransport, group: Cgroup | None, cpus: float
    ) -> None:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise ValueError("the process has no pipes")
        self._process = process
        self._transport = transport
        self._group = group
        self._cpus = cpus
        self._oom_kills = 0
        self._killing: asyncio.Task[None] | None = None
        self.stdin = process.stdin
        self.stdout = process.stdout
        self.stderr = process.stderr

    @classmethod
    async def start(
        cls, argv: Sequence[str], group: Cgroup | None, cpus: float, inherited: Iterable[int] = ()
    ) -> LocalProcess:
        """Start the launcher, which joins the group and has the `inherited` descriptors under their numbers.

        Raises Failure SANDBOX_START_FAILED.

        The group is the process's from then on, also when it does not start.
        """
        loop = asyncio.get_running_loop()
        try:
            transport, protocol = await loop.subprocess_exec(
                lambda: SubprocessStreamProtocol(limit=_STREAM_LIMIT, loop=loop),
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                # Nothing of ours: /proc/1/environ inside shows what bubblewrap was started with.
                env={"PATH": _SYSTEM_PATH},
                cwd="/",
                start_new_session=True,
                pass_fds=tuple(inherited),
            )
        except BaseException as error:
            if group is not None:
                group.remove()
            if not isinstance(error, OSError):
                raise
            raise Failure(
                errors_pb2.ERROR_REASON_SANDBOX_START_FAILED,
                f"The sandbox's launcher {argv[0]} did not start: {error.strerror}.",
            ) from error
        return cls(Process(transport, protocol, loop), transport, group, cpus)

    async def wait(self) -> int:
        """See SandboxProcess."""
        return await self._process.wait()

    async def kill(self) -> None:
        """See SandboxProcess."""
        if self._killing is None:
            self._killing = asyncio.create_task(self._kill(), name="sandbox's end")
        await asyncio.shield(self._killing)

    async def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        if self._group is not None:
            self._oom_kills = self._group.oom_kills()
            await asyncio.to_thread(self._group.remove)
        # First the pipes: what it said and nobody took would keep them open, and the wait from its end.
        self._transport.close()
        try:
            async with asyncio.timeout(_KILL_SECONDS):
                await self._process.wait()
        except TimeoutError:
            _log.error("sandbox_not_ended", pid=self._process.pid)

    async def settle(self) -> None:
        """See SandboxProcess."""
        if self._group is not None and self._killing is None:
            self._group.limit_cpu(self._cpus)

    async def pause(self) -> None:
        """See SandboxProcess. Without a group, only the processes that are there now stop, by a signal."""
        if self._killing is not None:
            return
        if self._group is not None:
            await self._group.pause()
        else:
            _signal_tree(self._process.pid, signal.SIGSTOP)

    async def resume(self) -> None:
        """See SandboxProcess."""
        if self._killing is not None:
            return
        if self._group is not None:
            self._group.freeze(frozen=False)
        else:
            _signal_tree(self._process.pid, signal.SIGCONT)

    def processes(self) -> Sequence[int]:
        """See SandboxProcess."""
        if self._killing is not None:
            return ()
        return self._group.processes() if self._group else _tree(self._process.pid)

    def memory_bytes(self) -> int:
        """See SandboxProcess."""
        return self._group.memory_bytes() if self._group and self._killing is None else 0

    def refused_forks(self) -> int:
        """See SandboxProcess."""
        return self._group.refused_forks() if self._group and self._killing is None else 0

    def out_of_memory(self) -> bool:
        """See SandboxProcess."""
        if self._group is not None and self._killing is None:
            self._oom_kills = self._group.oom_kills()
        return self._oom_kills > 0


def _signal_tree(root: int, number: signal.Signals) -> None:
    for pid in _tree(root):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _tree(root: int) -> list[int]:
    """Return a process's id and those of its descendants, parents first."""
    found = [root]
    for pid in found:
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(child) for child in children.read_text().split()]
    return found
