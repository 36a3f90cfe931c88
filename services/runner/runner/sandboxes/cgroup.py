"""One sandbox's control group: its limits, its freezer, its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Final, Literal

import structlog

from runner.sandboxes.protocol import Limits

UNIFIED: Final = ""
"""The key of the folder in version 2's hierarchy."""
FREEZER: Final = "freezer"
_PERIOD_US: Final = 100_000
# Processes that were killed leave their group within milliseconds; on a machine under load, seconds.
_LEAVE_SECONDS: Final = 5.0
# A group freezes within a millisecond. One with many busy processes and little CPU takes longer, and what is
# in a system call that cannot be interrupted is frozen when that returns: nothing has to wait for it.
_FREEZE_SECONDS: Final = 0.5
_LOOK_SECONDS: Final = 0.001

FreezerKind = Literal["cgroup2", "cgroup1", "signals"]

_log = structlog.get_logger("runner.cgroups")


def freezer_of(folders: dict[str, Path]) -> FreezerKind:
    """Return how a group with these folders is frozen."""
    if UNIFIED in folders:
        return "cgroup2"
    return "cgroup1" if FREEZER in folders else "signals"


class Cgroup:
    """A group. `folders` has one for each of version 1's controllers, and UNIFIED for version 2's hierarchy.

    With `unified` the limits are version 2's. Without, UNIFIED is only for freezing and killing.
    """

    def __init__(self, folders: dict[str, Path], *, unified: bool) -> None:
        self._folders = folders
        self._unified = unified
        self.freezer = freezer_of(folders)

    @property
    def joins(self) -> list[Path]:
        """Files that a process writes its id to, to be in the group with all that it starts."""
        return [folder / "cgroup.procs" for folder in self._folders.values()]

    def limit(self, limits: Limits) -> None:
        """Set the limits of all but the CPU, see `limit_cpu`."""
        if self._unified:
            folder = self._folders[UNIFIED]
            (folder / "memory.max").write_text(str(limits.memory_bytes))
            write_if_there(folder / "memory.swap.max", "0")
            (folder / "pids.max").write_text(str(limits.pids))
            return
        if "memory" in self._folders:
            memory = self._folders["memory"]
            (memory / "memory.limit_in_bytes").write_text(str(limits.memory_bytes))
            write_if_there(memory / "memory.memsw.limit_in_bytes", str(limits.memory_bytes))
        if "pids" in self._folders:
            (self._folders["pids"] / "pids.max").write_text(str(limits.pids))

    def limit_cpu(self, cpus: float) -> None:
        """Set how many cores' time it may use."""
        quota = int(cpus * _PERIOD_US)
        if self._unified:
            (self._folders[UNIFIED] / "cpu.max").write_text(f"{quota} {_PERIOD_US}")
        elif "cpu" in self._folders:
            (self._folders["cpu"] / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
            (self._folders["cpu"] / "cpu.cfs_quota_us").write_text(str(quota))

    async def pause(self) -> None:
        """Freeze everything in it, and what it is starting at this moment. OSError when the kernel refuses.

        Returns when all of it is frozen, or after half a second: what is not frozen by then is in a system
        call, and gets no further than to its end.
        """
        self.freeze(frozen=True)
        deadline = time.monotonic() + _FREEZE_SECONDS
        while not self.is_frozen():
            if time.monotonic() > deadline:
                _log.info("freezing_slowly", group=next(iter(self._folders.values())).name)
                return
            await asyncio.sleep(_LOOK_SECONDS)

    def freeze(self, *, frozen: bool) -> None:
        """Begin to freeze everything in it, or let it go on at once. OSError when the kernel refuses."""
        if self.freezer == "cgroup2":
            (self._folders[UNIFIED] / "cgroup.freeze").write_text("1" if frozen else "0")
        elif self.freezer == "cgroup1":
            (self._folders[FREEZER] / "freezer.state").write_text("FROZEN" if frozen else "THAWED")
        else:
            self._signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def is_frozen(self) -> bool:
        """Return whether all of it is frozen. By signals it cannot be told, and is True."""
        if self.freezer == "cgroup2":
            return "frozen 1" in (self._folders[UNIFIED] / "cgroup.events").read_text()
        if self.freezer == "cgroup1":
            return (self._folders[FREEZER] / "freezer.state").read_text().strip() == "FROZEN"
        return True

    def _signal(self, number: signal.Signals) -> None:
        done: set[int] = set()
        # What starts a process is stopped in the next round at the latest.
        while left := set(self.processes()) - done:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            done |= left

    def processes(self) -> list[int]:
        """Return the ids of the processes in it."""
        return sorted(
            {int(line) for folder in self._folders.values() for line in _lines(folder / "cgroup.procs")}
        )

    def memory_bytes(self) -> int:
        """Return the memory in use, without what is only cached; 0 when it is not counted."""
        name = "memory.current" if self._unified else "memory.usage_in_bytes"
        cached = "inactive_file" if self._unified else "total_inactive_file"
        with contextlib.suppress(OSError, KeyError):
            folder = self._folders[UNIFIED if self._unified else "memory"]
            used = int((folder / name).read_text())
            return max(0, used - _value(folder / "memory.stat", cached))
        return 0

    def oom_kills(self) -> int:
        """Return how many processes were killed because memory was at its limit."""
        with contextlib.suppress(OSError, KeyError):
            folder = self._folders[UNIFIED if self._unified else "memory"]
            return _value(folder / ("memory.events" if self._unified else "memory.oom_control"), "oom_kill")
        return 0

    def refused_forks(self) -> int:
        """Return how many processes could not be started because of the limit."""
        folder = self._folders.get(UNIFIED if self._unified else "pids")
        with contextlib.suppress(OSError):
            return _value(folder / "pids.events", "max") if folder else 0
        return 0

    def kill(self) -> None:
        """Kill what is in it, frozen or not. Blocks until nothing is, for a bounded time.

        It is frozen first, so that nothing that forks gets ahead. Version 2's freezer lets a process die;
        version 1's only when it thaws, and then before it runs another instruction.
        """
        if self.freezer != "signals":
            with contextlib.suppress(OSError):
                self.freeze(frozen=True)
        if self.freezer == "cgroup2":
            # Kernels before 5.14 have no such file.
            write_if_there(self._folders[UNIFIED] / "cgroup.kill", "1")
        deadline = time.monotonic() + _LEAVE_SECONDS
        while (left := self.processes()) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if self.freezer == "cgroup1":
                with contextlib.suppress(OSError):
                    self.freeze(frozen=False)
            time.sleep(0.005)

    def remove(self) -> None:
        """Kill what is in it and remove it. Blocks until it is gone, for a bounded time."""
        self.kill()
        deadline = time.monotonic() + _LEAVE_SECONDS
        for folder in self._folders.values():
            while folder.is_dir() and time.monotonic() < deadline:
                try:
                    folder.rmdir()
                except OSError:
                    time.sleep(0.005)


def write_if_there(path: Path, value: str) -> None:
    """Write where kernels differ in whether there is such a file."""
    with contextlib.suppress(OSError):
        if path.exists():
            path.write_text(value)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _value(path: Path, name: str) -> int:
    """Return a number from a file with a name and a number on each line; 0 when it is not there."""
    for line in path.read_text().splitlines():
        key, _, number = line.partition(" ")
        if key == name:
            return int(number)
    return 0
