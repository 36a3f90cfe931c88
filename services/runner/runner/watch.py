"""Watches a sandbox while a turn runs in it: what breaks its limits is ended, with a reason."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from runner.agent import Agent
from runner.outcome import out_of_memory
from runner.sandboxes.protocol import Limits

_LOOK_SECONDS: Final = 0.25
_DISK_SECONDS: Final = 30.0
_FIRST_DISK_SECONDS: Final = 0.5
# A measurement may take a tenth of one of our cores, not more.
_DISK_SHARE: Final = 10
# A build that runs into the limit now and then goes on; a fork bomb does so thousands of times a second.
_REFUSED_FORKS: Final = 200


async def watch(agent: Agent, disk_use: DiskUse, limits: Limits) -> None:
    """Look after an agent's sandbox until cancelled, or until it had to be ended."""
    disk = asyncio.create_task(_disk_breach(disk_use, limits), name="disk watch")
    try:
        while not agent.ended.is_set():
            await asyncio.wait({disk}, timeout=_LOOK_SECONDS)
            failure = disk.result() if disk.done() else breach(agent, limits)
            if failure is not None:
                await agent.doom(failure)
                return
    finally:
        disk.cancel()


def breach(agent: Agent, limits: Limits) -> Failure | None:
    """Return which limit the sandbox has broken, None when it has none."""
    if agent.process.out_of_memory():
        return out_of_memory()
    if agent.process.refused_forks() > _REFUSED_FORKS:
        return Failure(
            errors_pb2.ERROR_REASON_SANDBOX_CRASHED,
            f"The agent's commands started more than {limits.pids} processes, so the sandbox was ended. Its "
            "files are kept; the next turn gets a fresh sandbox.",
            limit=str(limits.pids),
        )
    return None


class DiskUse:
    """What a workspace takes on disk, as it was measured last; 0 before that."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self.measured = 0
        self._measuring: asyncio.Task[int] | None = None

    async def measure(self) -> int:
        """Measure now. What cannot be measured in time counts as it was."""
        with contextlib.suppress(TimeoutError, OSError):
            self.measured = await disk_usage(self._workspace)
        return self.measured

    def measure_soon(self) -> None:
        """Measure beside what goes on."""
        self._measuring = asyncio.create_task(self.measure(), name="disk use")


async def _disk_breach(use: DiskUse, limits: Limits) -> Failure:
    """Measure until the workspace is too large. One that was before may stay, to be cleared up."""
    allowed = max(limits.workspace_bytes, use.measured)
    loop = asyncio.get_running_loop()
    # Starting a program takes the loop's time, and most turns have said their first words by then.
    await asyncio.sleep(_FIRST_DISK_SECONDS)
    while True:
        began = loop.time()
        used = await use.measure()
        if used > allowed:
            return workspace_full(used, limits.workspace_bytes)
        await asyncio.sleep(max(_LOOK_SECONDS, (loop.time() - began) * _DISK_SHARE))


async def disk_usage(folder: Path) -> int:
    """Return the bytes that a folder takes on disk; links are not followed."""
    process = await asyncio.create_subprocess_exec(
        "du",
        "-skx",
        "--",
        str(folder),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PATH": os.defpath, "LC_ALL": "C"},
    )
    try:
        async with asyncio.timeout(_DISK_SECONDS):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    # It exits with 1 when a file went away under it, and its sum is right all the same.
    return int(said.split()[0]) * 1024 if said else 0


def workspace_full(used: int, limit: int) -> Failure:
    """Return the failure of a workspace that is at its limit."""
    return Failure(
        errors_pb2.ERROR_REASON_WORKSPACE_FULL,
        f"The workspace has {used} bytes and may have {limit}; delete something first.",
        limit=str(limit),
    )
