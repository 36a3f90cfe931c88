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
# Between looks at the free space, which cost microseconds; so long can a fast writer go on past the quota.
_FREE_SECONDS: Final = 0.1
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
    """What a workspace takes on disk, as it was measured last; 0 before that.

    Measuring walks through all of it. In between, the free space of the file system says how much it can have
    grown at most: whatever shrank that, it was not more than that.
    """

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self.measured = 0
        self._free = _free_bytes(workspace)
        self._measuring: asyncio.Task[int] | None = None

    def at_most(self) -> int:
        """Return what it can have come to since, without measuring."""
        return self.measured + max(0, self._free - _free_bytes(self._workspace))

    async def measure(self) -> int:
        """Measure now. What cannot be measured in time counts as it was."""
        with contextlib.suppress(TimeoutError, OSError):
            free = _free_bytes(self._workspace)
            self.measured = await disk_usage(self._workspace)
            self._free = free
        return self.measured

    async def exceeds(self, limit: int) -> bool:
        """Return whether it is larger than that. Measures only when it may be."""
        return self.at_most() > limit and await self.measure() > limit

    def measure_soon(self) -> None:
        """Measure beside what goes on."""
        self._measuring = asyncio.create_task(self.measure(), name="disk use")


def _free_bytes(folder: Path) -> int:
    """Return the free space where a folder lies; 0 when that cannot be told."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return 0
    return status.f_bfree * status.f_frsize


async def _disk_breach(use: DiskUse, limits: Limits) -> Failure:
    """Measure until the workspace is too large. One that was before may stay, to be cleared up."""
    allowed = max(limits.workspace_bytes, use.measured)
    loop = asyncio.get_running_loop()
    # Starting a program takes the loop's time, and most turns have said their first words by then.
    earliest, due = loop.time(), loop.time() + _FIRST_DISK_SECONDS
    while True:
        await asyncio.sleep(_FREE_SECONDS)
        began = loop.time()
        # The space may have gone to others: then it is measured half of the time at most.
        if began < due and (began < earliest or use.at_most() <= allowed):
            continue
        used = await use.measure()
        if used > allowed:
            return workspace_full(used, limits.workspace_bytes)
        took = loop.time() - began
        earliest = loop.time() + took
        due = loop.time() + max(_LOOK_SECONDS, took * _DISK_SHARE)


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
