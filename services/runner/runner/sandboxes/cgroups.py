"""A control group for each sandbox, where this machine lets us have one: cgroup v2, or v1's controllers.

Groups lie at the top, as those of other engines do, below one folder per installation; that folder is the
label by which a runner finds what an earlier one left behind. Beside version 1's controllers, a group of
version 2 is for freezing and killing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import structlog

from runner.sandboxes.cgroup import (
    FREEZER,
    UNIFIED,
    Cgroup,
    FreezerKind,
    freezer_of,
    write_if_there,
)
from runner.sandboxes.cgroup_mounts import make_unified
from runner.sandboxes.memory import sandboxes_memory
from runner.sandboxes.protocol import BOOT_CPUS, Limits

_CONTROLLERS: Final = ("memory", "pids", "cpu")
_ENABLE: Final = "+memory +pids +cpu"
_MOUNT: Final = Path("/sys/fs/cgroup")

_WORSE_FREEZERS: Final[Mapping[FreezerKind, str]] = {
    "cgroup1": "cgroup v2 cannot be mounted here. Frozen sandboxes that outlive a killed runner stay frozen "
    "and are removed at the next start.",
    "signals": "This machine lets the runner make no control groups. Idle sandboxes are stopped by SIGSTOP, "
    "and a program that has set itself a timer can go on. Run the runner as root, or delegate a cgroup.",
}

_log = structlog.get_logger("runner.cgroups")


def log_freezer(kind: FreezerKind) -> None:
    """Say at the start how idle sandboxes are frozen, and what that does not hold for."""
    if kind == "cgroup2":
        _log.info("freezer", kind=kind)
    else:
        _log.warning("freezer", kind=kind, why=_WORSE_FREEZERS[kind])


class Cgroups:
    """Makes groups. `folders` are those of this installation, see `Cgroup`."""

    def __init__(self, folders: dict[str, Path], *, unified: bool) -> None:
        self._folders = folders
        self._unified = unified

    @classmethod
    def detect(
        cls,
        state: Path,
        mount: Path = _MOUNT,
        make_unified: Callable[[str], Path | None] = make_unified,
    ) -> Cgroups | None:
        """Return what this machine has, None when groups cannot be made here.

        `make_unified` makes a group of version 2 wherever that is possible, also without controllers.
        """
        name = cls.folder_name(state)
        if (mount / "cgroup.controllers").exists() and (groups := cls._unified_at(mount / name)):
            return groups
        unified = make_unified(name)
        folders = cls._version_one(mount, name, _CONTROLLERS if unified else (*_CONTROLLERS, FREEZER))
        if unified:
            folders[UNIFIED] = unified
        elif "memory" not in folders:
            return None
        return cls(folders, unified=False)

    @classmethod
    def _unified_at(cls, folder: Path) -> Cgroups | None:
        """Return groups with version 2's controllers, None when they are not ours to give out."""
        try:
            folder.mkdir(exist_ok=True)
            # Of the top group, mostly done by whoever started the machine; where it is refused, so is the
            # next.
            write_if_there(folder.parent / "cgroup.subtree_control", _ENABLE)
            # Allowed here, because no process is in this very group.
            (folder / "cgroup.subtree_control").write_text(_ENABLE)
            write_if_there(folder / "memory.max", str(sandboxes_memory()))
        except OSError as error:
            _log.warning("no_cgroups", error=error.strerror, path=error.filename)
            return None
        return cls({UNIFIED: folder}, unified=True)

    @classmethod
    def _version_one(cls, mount: Path, name: str, controllers: Iterable[str]) -> dict[str, Path]:
        folders = {part: mount / part / name for part in controllers if (mount / part).is_dir()}
        try:
            for folder in folders.values():
                folder.mkdir(exist_ok=True)
        except OSError as error:
            _log.warning("no_cgroups", error=error.strerror, path=error.filename)
            return {}
        return folders

    @property
    def freezer(self) -> FreezerKind:
        """How sandboxes are frozen."""
        return freezer_of(self._folders)

    @property
    def limits_memory(self) -> bool:
        """Whether a group's limits hold; without, groups are only frozen and killed."""
        return self._unified or "memory" in self._folders

    @staticmethod
    def folder_name(state: Path) -> str:
        """Return the label of the installation whose state lies there."""
        return f"pointsman-{hashlib.sha256(os.fsencode(state)).hexdigest()[:12]}"

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
        if "memory" in folders:
            # Each time: another runner that starts removes folders without a sandbox, see `_sweep`.
            write_if_there(self._folders["memory"] / "memory.limit_in_bytes", str(sandboxes_memory()))
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
