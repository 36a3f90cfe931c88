"""What a sandbox's processes hold of the disk in files that have no name any more.

`du` does not see them: files that were removed while they are open or mapped, and files made without a name
(O_TMPFILE). The kernel shows them below /proc of each process that has them. Memory files (memfd, tmpfs) lie
on other devices and count as memory.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Looking at so many takes half a second. Who has more hides something, or might.
_DESCRIPTORS: Final = 100_000
_PROC: Final = Path("/proc")


@dataclass(frozen=True)
class Held:
    """What was found: bytes on disk and number of files. `complete` is False when some may not be seen."""

    bytes: int = 0
    files: int = 0
    complete: bool = True


class _Look:
    def __init__(self, device: int) -> None:
        self._device = device
        self._found: dict[int, int] = {}
        self._left = _DESCRIPTORS
        self.complete = True

    def result(self) -> Held:
        return Held(sum(self._found.values()), len(self._found), self.complete)

    def process(self, process: Path) -> None:
        """Look at a process: the descriptors of each thread, which may have a table of its own, and maps."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for thread in _names(process / "task"):
                self._descriptors(process / "task" / thread)
            self._maps(process)

    def _descriptors(self, thread: Path) -> None:
        for number in _names(thread / "fd"):
            self._left -= 1
            if self._left < 0:
                self.complete = False
                return
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                # Of what is open itself, not of what may now lie at its path.
                status = os.stat(thread / "fd" / number)  # noqa: PTH116
                if stat.S_ISSOCK(status.st_mode):
                    self._on_its_way(thread, number)
                self._add(status)

    def _on_its_way(self, thread: Path, number: str) -> None:
        """Descriptors that were sent and not yet received belong to no process; their number is known."""
        for line in (thread / "fdinfo" / number).read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "scm_fds" and value.strip() != "0":
                self.complete = False

    def _maps(self, process: Path) -> None:
        for line in (process / "maps").read_text(errors="replace").splitlines():
            area, _, _, device, inode, *name = line.split(None, 5)
            if not name or not name[0].endswith("(deleted)") or inode == "0":
                continue
            major, _, minor = device.partition(":")
            if os.makedev(int(major, 16), int(minor, 16)) != self._device or int(inode) in self._found:
                continue
            try:
                self._add(os.stat(process / "map_files" / area))  # noqa: PTH116
            except PermissionError:
                # A runner that is not root sees that it is mapped, and not how large the rest of it is.
                self.complete = False

    def _add(self, status: os.stat_result) -> None:
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 0 and status.st_dev == self._device:
            self._found[status.st_ino] = status.st_blocks * 512


def held_files(workspace: Path, processes: Sequence[int]) -> Held:
    """Return what these processes hold on the workspace's device without a name. Blocks for milliseconds."""
    look = _Look(workspace.stat().st_dev)
    for process in processes:
        try:
            look.process(_PROC / str(process))
        except PermissionError:
            # A process may forbid its own user to look at it.
            look.complete = False
    return look.result()


def _names(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry.name
