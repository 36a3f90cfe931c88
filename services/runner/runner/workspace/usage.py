"""What a workspace takes on disk: bytes and entries, with what its sandbox holds in files without a name."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from runner.sandboxes.protocol import Limits
from runner.threads import to_the_end
from runner.workspace.held import held_files

_DISK_SECONDS: Final = 30.0
# While no turn runs, what others free on the same disk could hide what a left-over job writes.
_IDLE_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Usage:
    """Bytes on disk, and files, folders and links by every name that they have."""

    bytes: int = 0
    entries: int = 0

    def exceeds(self, other: Usage) -> bool:
        """Return whether one of the two is more than the other's."""
        return self.bytes > other.bytes or self.entries > other.entries

    def most(self, other: Usage) -> Usage:
        """Return the larger of each."""
        return Usage(max(self.bytes, other.bytes), max(self.entries, other.entries))


def allowed_by(limits: Limits) -> Usage:
    """Return what a workspace may have."""
    return Usage(limits.workspace_bytes, limits.workspace_entries)


class DiskUse:
    """What a workspace takes on disk, as it was measured last; nothing before that.

    Measuring walks through all of it. In between, the free space of the file system says how much it can have
    grown at most: whatever shrank that, it was not more than that. `processes` are those of its sandbox.
    """

    def __init__(self, workspace: Path, processes: Callable[[], Sequence[int]] = tuple) -> None:
        self._workspace = workspace
        self.processes = processes
        self.measured = Usage()
        self._free = _free(workspace)
        self._time = time.monotonic()
        self._measuring: asyncio.Task[Usage] | None = None

    def at_most(self) -> Usage:
        """Return what it can have come to since, without measuring. Takes microseconds."""
        free = _free(self._workspace)
        return Usage(
            self.measured.bytes + max(0, self._free.bytes - free.bytes),
            self.measured.entries + max(0, self._free.entries - free.entries),
        )

    async def measure(self) -> Usage:
        """Measure now. What cannot be measured in time, or not be seen, counts as what it can be at most."""
        free = _free(self._workspace)
        try:
            named, held = await asyncio.gather(
                disk_usage(self._workspace), to_the_end(held_files, self._workspace, self.processes())
            )
        except FileNotFoundError:
            # The workspace was removed or put elsewhere: there is another measure for that.
            return self.measured
        except (TimeoutError, OSError):
            return self.at_most()
        self._time = time.monotonic()
        found = Usage(named.bytes + held.bytes, named.entries + held.files)
        if not held.complete:
            # What it was when all was seen, and all that the disk has lost since, stay the measure.
            return found.most(self.at_most())
        self.measured, self._free = found, free
        return found

    async def exceeds(self, allowed: Usage, *, running: bool) -> bool:
        """Return whether it is larger than that. Measures when it may be, and now and then if `running`."""
        old = running and time.monotonic() - self._time > _IDLE_SECONDS
        return (old or self.at_most().exceeds(allowed)) and (await self.measure()).exceeds(allowed)

    def measure_soon(self) -> None:
        """Measure beside what goes on."""
        self._measuring = asyncio.create_task(self.measure(), name="disk use")


def _free(folder: Path) -> Usage:
    """Return what is free where a folder lies; 0 for what cannot be told."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return Usage()
    return Usage(status.f_bfree * status.f_frsize, status.f_ffree)


async def disk_usage(folder: Path) -> Usage:
    """Return what lies in a folder, itself included; links are not followed. TimeoutError, OSError."""
    kib, entries = await asyncio.gather(
        _du("-skx", folder),
        # Every name counts: a file that has many makes as many entries.
        _du("-slx", folder, "--inodes"),
    )
    return Usage(kib * 1024, entries)


async def _du(options: str, folder: Path, *more: str) -> int:
    process = await asyncio.create_subprocess_exec(
        "du",
        options,
        *more,
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
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    # It exits with 1 when a file went away under it, and its sum is right all the same.
    return int(said.split()[0]) if said else 0


def workspace_full(used: Usage, limits: Limits) -> Failure:
    """Return the failure of a workspace that is over a limit."""
    allowed = allowed_by(limits)
    if used.entries > allowed.entries:
        return Failure(
            errors_pb2.ERROR_REASON_WORKSPACE_FULL,
            f"The workspace has {used.entries} files and folders, and may have {allowed.entries}. Delete "
            "some, or ask the operator to raise POINTSMAN_WORKSPACE_ENTRIES.",
            limit=str(allowed.entries),
        )
    return Failure(
        errors_pb2.ERROR_REASON_WORKSPACE_FULL,
        f"The workspace takes {used.bytes} bytes on disk, and may take {allowed.bytes}. This counts files "
        "that were deleted while a program has them open. Delete something, or end that program.",
        limit=str(allowed.bytes),
    )
