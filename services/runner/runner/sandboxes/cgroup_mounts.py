"""Where this machine lets us make control groups of version 2, which is the one that can freeze well.

A machine whose controllers are version 1's can have version 2 mounted beside them, without controllers.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

OWN_MOUNT: Final = Path("/run/pointsman/cgroup")
"""Where it is mounted when nobody else has. It stays: all runners of the machine use it."""
_MOUNT_SECONDS: Final = 10


def make_unified(name: str) -> Path | None:
    """Make a group of this name and return its folder, None where the machine does not allow it."""
    for parent in _parents():
        if folder := _made(parent / name):
            return folder
    return _made(OWN_MOUNT / name) if _mount() else None


def mounted(mountinfo: str) -> list[tuple[str, Path]]:
    """Return the mounts of version 2, as /proc/self/mountinfo has them: their root in it, and their place."""
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if after.split(" ", 1)[0] == "cgroup2":
            root, place = before.split()[3:5]
            found.append((_unescaped(root), Path(_unescaped(place))))
    return found


def own_folder(root: str, place: Path, groups: str) -> Path | None:
    """Return the group that a process is in, None when it is not below this mount.

    `groups` is /proc/self/cgroup. A runner that is not root may make groups there when it was delegated.
    """
    for line in groups.splitlines():
        if line.startswith("0::"):
            own = PurePosixPath(line.removeprefix("0::"))
            if own.is_relative_to(root) and ".." not in own.parts:
                return place / own.relative_to(root)
    return None


def _parents() -> Iterator[Path]:
    """Return the top of each mount, where other engines have their groups, too; then our own groups."""
    found = mounted(Path("/proc/self/mountinfo").read_text())
    yield from (place for _, place in found)
    groups = Path("/proc/self/cgroup").read_text()
    for root, place in found:
        if own := own_folder(root, place, groups):
            yield own


def _made(folder: Path) -> Path | None:
    try:
        folder.mkdir(exist_ok=True)
        # Kernels before 5.2 have no freezer in version 2.
        trial = folder / "trial"
        trial.mkdir(parents=True, exist_ok=True)
        try:
            can_freeze = (trial / "cgroup.freeze").exists()
        finally:
            trial.rmdir()
    except OSError:
        return None
    return folder if can_freeze else None


def _mount() -> bool:
    try:
        OWN_MOUNT.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "cgroup2", "-o", "nosuid,nodev,noexec", "none", str(OWN_MOUNT)]
        ended = subprocess.run(command, capture_output=True, timeout=_MOUNT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ended.returncode == 0


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
