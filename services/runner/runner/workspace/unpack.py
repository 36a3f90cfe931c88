"""Makes a folder of a tar file that is read as if an enemy had written it.

Every entry goes through `Door`, so nothing lands outside of the new folder, whatever links the archive holds;
count and bytes are bounded. Holes of the archive become holes of the files.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from runner.workspace.door import Door, parts_of
from runner.workspace.pack import Budget, areas

_COPY_BYTES: Final = 1024 * 1024
_PAGE_BYTES: Final = 4096
_FILE_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def unpack(source: Path, folder: Path, owner: int, budget: Budget) -> None:
    """Fill a new folder, which nobody else uses. Blocks.

    Failure WORKSPACE_FULL, PATH_REFUSED; StoppedError.
    """
    try:
        with (
            tarfile.open(source, mode="r:") as archive,
            # Beside the archive, which has its own idea of where its file is.
            source.open("rb", buffering=0) as data,
            Door(folder) as door,
            _Folder(door, owner) as place,
        ):
            while (member := archive.next()) is not None:
                # It would keep all of them.
                archive.members = []  # type: ignore[attr-defined]
                budget.entry(member.size if member.isreg() else 0)
                _extract(data.fileno(), member, place, budget)
    except tarfile.TarError as error:
        raise Failure(
            errors_pb2.ERROR_REASON_PATH_REFUSED, f"The snapshot is not readable: {error}.", path=""
        ) from error


class _Folder:
    """The folder that entries are made in now: the next one is mostly made in the same."""

    def __init__(self, door: Door, owner: int) -> None:
        self._door = door
        self.owner = owner
        self._parts: tuple[str, ...] | None = None
        self._descriptor = -1

    def __enter__(self) -> _Folder:
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()

    def enter(self, parts: tuple[str, ...]) -> int:
        """Return a descriptor of a folder, made with those that lead to it. Ours to close."""
        if parts != self._parts:
            self._close()
            self._door.make_folders(parts, self.owner)
            self._descriptor = self._door.open("/".join(parts), os.O_RDONLY | os.O_DIRECTORY)
            self._parts = parts
        return self._descriptor

    def _close(self) -> None:
        if self._parts is not None:
            os.close(self._descriptor)
            self._parts = None


def _extract(source: int, member: tarfile.TarInfo, place: _Folder, budget: Budget) -> None:
    parts = parts_of(member.name)
    if not parts:
        return
    if member.isdir():
        place.enter(parts)
        return
    parent = place.enter(parts[:-1])
    if member.issym():
        os.symlink(member.linkname, parts[-1], dir_fd=parent)
        if os.geteuid() == 0:
            os.chown(parts[-1], place.owner, place.owner, dir_fd=parent, follow_symlinks=False)
    elif member.isreg():
        with _new_file(parts[-1], parent, member) as descriptor:
            _copy(source, member, descriptor, budget)
            if os.geteuid() == 0:
                os.chown(descriptor, place.owner, place.owner)
            os.utime(descriptor, (member.mtime, member.mtime))
    else:
        # Hard links, devices, fifos: we never write them, so somebody else did.
        raise Failure(
            errors_pb2.ERROR_REASON_PATH_REFUSED,
            "The snapshot holds something that is no file, folder or symbolic link.",
            path=member.name[:256],
        )


@contextmanager
def _new_file(name: str, parent: int, member: tarfile.TarInfo) -> Iterator[int]:
    descriptor = os.open(name, _FILE_FLAGS, 0o600, dir_fd=parent)
    try:
        # Whatever the archive says: no setuid, no setgid.
        os.fchmod(descriptor, member.mode & 0o777 | 0o600)
        yield descriptor
    finally:
        os.close(descriptor)


def _copy(source: int, member: tarfile.TarInfo, target: int, budget: Budget) -> None:
    base = member.offset_data
    whole = os.fstat(source)
    full = ((base, base + member.size),)
    holes = whole.st_blocks * 512 < whole.st_size
    for begin, end in areas(source, base, base + member.size) if holes else full:
        start, sparse = begin, end - begin < member.size
        while start < end:
            data = os.pread(source, min(_COPY_BYTES, end - start), start)
            if not data:
                raise tarfile.ReadError("it ends within a file")
            # Blocks of the archive are not those of the file: what was a hole is zeros at both ends.
            for at in _filled(data, start - base) if sparse else (slice(0, len(data)),):
                budget.data(at.stop - at.start)
                os.pwrite(target, data[at], start - base + at.start)
            start += len(data)
    os.truncate(target, member.size)


def _filled(data: bytes, place: int) -> Iterator[slice]:
    """Yield the parts that are not zeros, by blocks of the file that they lie in."""
    at = 0
    while at < len(data):
        end = min(len(data), at + _PAGE_BYTES - (place + at) % _PAGE_BYTES)
        if data.count(0, at, end) < end - at:
            yield slice(at, end)
        at = end
