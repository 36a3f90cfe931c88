"""A control group for each sandbox, where this machine lets us have one: cgroup v2, or v1's controllers.

Groups lie at the top, as those of other engines do, below one folder per installation; that folder is the
label by which a runner finds what an earlier one left behind.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import time
from pathlib import Path
from typing import Final

import structlog

from runner.sandboxes.protocol import BOOT_CPUS, Limits

_CONTROLLERS: Final = ("memory", "pids", "cpu")
_ENABLE: Final = "+memory +pids +cpu"
_PERIOD_US: Final = 100_000
# Processes that were killed leave their group within milliseconds; on a machine under load, seconds.
_LEAVE_SECONDS: Final = 5.0
_MOUNT: Final = Path("/sys/fs/cgroup")

_log = structlog.get_logger("runner.cgroups")


class Cgroups:
    """Makes groups. `folders` are those of this installation: one on v2, one per controller on v1."""

    def __init__(self, folders: dict[str, Path], *, unified: bool) -> None:
        self._folders = folders
        self._unified = unified

    @classmethod
    def detect(cls, state: Path, mount: Path = _MOUNT) -> Cgroups | None:
        """Return what this machine has, None when groups cannot be made here."""
        name = cls.folder_name(state)
        try:
            if (mount / "cgroup.controllers").exists():
                return cls._unified_at(mount / name)
            folders = {part: mount / part / name for part in _CONTROLLERS if (mount / part).is_dir()}
            for folder in folders.values():
                folder.mkdir(exist_ok=True)
            return cls(folders, unified=False) if "memory" in folders else None
        except OSError as error:
            _log.warning("no_cgroups", error=error.strerror, path=error.filename)
            return None

    @staticmethod
    def folder_name(state: Path) -> str:
        """Return the label of the installation whose state lies there."""
        return f"pointsman-{hashlib.sha256(os.fsencode(state)).hexdigest()[:12]}"

    @classmethod
    def _unified_at(cls, folder: Path) -> Cgroups:
        folder.mkdir(exist_ok=True)
        # Of the top group, mostly done by whoever started the machine; where it is refused, so is the next.
        Cgroup._optional(folder.parent / "cgroup.subtree_control", _ENABLE)
        # Allowed here, because no process is in this very group.
        (folder / "cgroup.subtree_control").write_text(_ENABLE)
        return cls({"": folder}, unified=True)

    def reap(self) -> int:
        """Kill and remove what an earlier runner left behind; return how many sandboxes that were."""
        names = {path.name for folder in self._folders.values() for path in folder.iterdir() if path.is_dir()}
        for name in names:
            Cgroup(self._of(name), unified=self._unified).remove()
        if not self._unified:
            self._sweep()
        return len(names)

    def _sweep(self) -> None:
        """Remove empty folders of installations that are gone, such as those of tests that were killed."""
        for own in self._folders.values():
            for folder in own.parent.glob("pointsman-*"):
                for path in (*folder.glob("*/"), folder):
                    # Only what has neither processes nor groups in it can be removed.
                    if path != own:
                        with contextlib.suppress(OSError):
                            path.rmdir()

    def create(self, sandbox_id: str, limits: Limits) -> Cgroup:
        """Make a group with these limits. OSError when the kernel refuses."""
        folders = self._of(sandbox_id)
        for folder in folders.values():
            folder.mkdir(parents=True)
        group = Cgroup(folders, unified=self._unified)
        group.limit(limits)
        group.limit_cpu(max(limits.cpus, BOOT_CPUS))
        return group

    def close(self) -> None:
        """Remove the installation's own folders, when they are empty."""
        for folder in self._folders.values():
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _of(self, name: str) -> dict[str, Path]:
        return {part: folder / name for part, folder in self._folders.items()}


class Cgroup:
    """One sandbox's group."""

    def __init__(self, folders: dict[str, Path], *, unified: bool) -> None:
        self._folders = folders
        self._unified = unified

    @property
    def joins(self) -> list[Path]:
        """Files that a process writes its id to, to be in the group with all that it starts."""
        return [folder / "cgroup.procs" for folder in self._folders.values()]

    def limit(self, limits: Limits) -> None:
        """Set the limits of all but the CPU, see `limit_cpu`."""
        if self._unified:
            folder = self._folders[""]
            (folder / "memory.max").write_text(str(limits.memory_bytes))
            self._optional(folder / "memory.swap.max", "0")
            (folder / "pids.max").write_text(str(limits.pids))
            return
        memory = self._folders["memory"]
        (memory / "memory.limit_in_bytes").write_text(str(limits.memory_bytes))
        self._optional(memory / "memory.memsw.limit_in_bytes", str(limits.memory_bytes))
        if "pids" in self._folders:
            (self._folders["pids"] / "pids.max").write_text(str(limits.pids))

    def limit_cpu(self, cpus: float) -> None:
        """Set how many cores' time it may use."""
        quota = int(cpus * _PERIOD_US)
        if self._unified:
            (self._folders[""] / "cpu.max").write_text(f"{quota} {_PERIOD_US}")
        elif "cpu" in self._folders:
            (self._folders["cpu"] / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
            (self._folders["cpu"] / "cpu.cfs_quota_us").write_text(str(quota))

    def freeze(self, *, frozen: bool) -> None:
        """Stop or continue all processes.

        By signals on v1: what its freezer has frozen does not even die before it is thawed, so it would
        outlive a runner that is killed.
        """
        if self._unified:
            (self._folders[""] / "cgroup.freeze").write_text("1" if frozen else "0")
            return
        done: set[str] = set()
        # What starts a process is stopped in the next round at the latest.
        while left := set(_lines(self._folders["memory"] / "cgroup.procs")) - done:
            for line in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(line), signal.SIGSTOP if frozen else signal.SIGCONT)
            done |= left

    def processes(self) -> list[int]:
        """Return the ids of the processes in it."""
        folder = self._folders["" if self._unified else "memory"]
        return [int(line) for line in _lines(folder / "cgroup.procs")]

    def memory_bytes(self) -> int:
        """Return the memory in use, without what is only cached."""
        name = "memory.current" if self._unified else "memory.usage_in_bytes"
        folder = self._folders["" if self._unified else "memory"]
        cached = "inactive_file" if self._unified else "total_inactive_file"
        with contextlib.suppress(OSError):
            used = int((folder / name).read_text())
            return max(0, used - _value(folder / "memory.stat", cached))
        return 0

    def oom_kills(self) -> int:
        """Return how many processes were killed because memory was at its limit."""
        folder = self._folders["" if self._unified else "memory"]
        with contextlib.suppress(OSError):
            return _value(folder / ("memory.events" if self._unified else "memory.oom_control"), "oom_kill")
        return 0

    def refused_forks(self) -> int:
        """Return how many processes could not be started because of the limit."""
        folder = self._folders.get("" if self._unified else "pids")
        with contextlib.suppress(OSError):
            return _value(folder / "pids.events", "max") if folder else 0
        return 0

    def kill(self) -> None:
        """Kill what is in it. Blocks until nothing is, for a bounded time."""
        with contextlib.suppress(OSError):
            self.freeze(frozen=False)
        if self._unified:
            # All at once, so that nothing that forks gets ahead; kernels before 5.14 have no such file.
            self._optional(self._folders[""] / "cgroup.kill", "1")
        deadline = time.monotonic() + _LEAVE_SECONDS
        for folder in self._folders.values():
            while (left := _lines(folder / "cgroup.procs")) and time.monotonic() < deadline:
                for line in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(line), signal.SIGKILL)
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

    @staticmethod
    def _optional(path: Path, value: str) -> None:
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
