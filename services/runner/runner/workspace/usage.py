"""What a workspace takes on disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

_DISK_SECONDS: Final = 30.0


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
