"""What a disk has after a power cut: contents that were synced, under names that were synced.

Stricter than file systems are: they may keep more of what was written, never less.
"""

from __future__ import annotations

import os
import subprocess
from bisect import bisect_right
from collections.abc import Mapping
from pathlib import Path

from support.required import program

_SOURCE = Path(__file__).with_suffix(".c")
# Services get the variables on their lists only, so the recorder is put on all lists.
_SUPERVISOR = """
import supervisor.environment as environment
environment.ALLOWED = {name: (*names, "LD_PRELOAD") for name, names in environment.ALLOWED.items()}
from supervisor.main import main
main()
"""
SUPERVISOR = ("-c", _SUPERVISOR)
"""What Python is to run so that all processes of an installation are recorded."""


class Recorder:
    """Records what is synced below `root`. `folder` is where it keeps that."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._kept = folder / "synced"
        self._kept.mkdir(parents=True)
        self._library = folder / "power_cut.so"
        compiler = program("gcc", install="apt-get install gcc libc6-dev")
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", self._library, _SOURCE, "-ldl"],
            check=True,
        )

    @property
    def environ(self) -> Mapping[str, str]:
        """What processes must have in their environment."""
        return {
            "LD_PRELOAD": str(self._library),
            "POINTSMAN_POWER_CUT_OF": str(self._root),
            "POINTSMAN_POWER_CUT_TO": str(self._kept),
        }

    def restore(self, moment: float, target: Path) -> None:
        """Write to `target` what is left of `root` after a power cut at `moment`, in seconds since 1970."""
        kept: dict[str, list[tuple[int, Path]]] = {}
        for path in sorted(self._kept.glob("[0-9]*-*")):
            time, _, which = path.name.partition("-")
            kept.setdefault(which, []).append((int(time), path))
        status = subprocess.run(
            ["stat", "--format=%i.%W", self._root], capture_output=True, text=True, check=True
        )
        root = next((which for which in kept if which.startswith(status.stdout.strip() + ".")), "")
        self._folder(kept, root, int(moment * 1e9), target)

    def _folder(
        self, kept: Mapping[str, list[tuple[int, Path]]], which: str, moment: int, target: Path
    ) -> None:
        target.mkdir(exist_ok=True)
        for line in (_synced(kept, which, moment) or b"").splitlines():
            kind, entry, name = os.fsdecode(line).split(" ", 2)
            if kind == "d":
                self._folder(kept, entry, moment, target / name)
            elif kind == "f":
                (target / name).write_bytes(_synced(kept, entry, moment) or b"")


def _synced(kept: Mapping[str, list[tuple[int, Path]]], which: str, moment: int) -> bytes | None:
    copies = kept.get(which, [])
    place = bisect_right(copies, moment, key=lambda copy: copy[0])
    return copies[place - 1][1].read_bytes() if place else None
