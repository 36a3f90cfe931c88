"""Writes a workspace into a tar file, as it is walked: in bounded memory, and ended early when asked to.

Folders are opened through `Door`; what lies in one is opened beside it, and never through a link. Holes of a
sparse file are holes in the tar file, too, so that it takes no more of the disk than the workspace does.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from runner.workspace.door import Door

_BLOCK: Final = 512
_COPY_BYTES: Final = 1024 * 1024
# What the fields of a plain header hold.
_SHORT: Final = 100
_PLAIN_BYTES: Final = 8 * 1024**3
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class StoppedError(Exception):
    """Nobody wants the result any more."""


@dataclass
class Budget:
    """What a snapshot may have: bytes of data with each name of a file counted, and entries.

    `length` adds up whole files, with their holes; it may come to `max_length`. Counting raises StoppedError
    once `stop` is set.
    """

    max_bytes: int
    max_entries: int
    max_length: int
    stop: threading.Event
    bytes: int = 0
    entries: int = 0
    length: int = 0

    def entry(self, length: int = 0) -> None:
        """Count one entry. Raises Failure WORKSPACE_FULL or SNAPSHOT_LIMIT."""
        self._go_on()
        self.entries += 1
        self.length += length
        if self.entries > self.max_entries:
            raise self._full(f"{self.max_entries} files and folders", self.max_entries)
        if self.length > self.max_length:
            raise Failure(
                errors_pb2.ERROR_REASON_SNAPSHOT_LIMIT,
                f"The files are more than the {self.max_length} bytes that are left for snapshots, holes of "
                "sparse files counted in full. Delete a snapshot (DeleteSnapshot), or files.",
                limit=str(self.max_length),
            )

    def data(self, count: int) -> None:
        """Count data. Raises Failure WORKSPACE_FULL."""
        self._go_on()
        self.bytes += count
        if self.bytes > self.max_bytes:
            raise self._full(f"{self.max_bytes} bytes, each name of a file counted", self.max_bytes)

    def _go_on(self) -> None:
        if self.stop.is_set():
            raise StoppedError

    @staticmethod
    def _full(what: str, limit: int) -> Failure:
        return Failure(
            errors_pb2.ERROR_REASON_WORKSPACE_FULL,
            f"A snapshot may have {what}. Delete some, and try again.",
            limit=str(limit),
        )


def pack(workspace: Path, file: IO[bytes], budget: Budget) -> None:
    """Write a tar file. Failure WORKSPACE_FULL, SNAPSHOT_LIMIT, PATH_REFUSED; StoppedError. Blocks."""
    # Names with the path that they share: whole paths of many folders would take much memory.
    folders: list[tuple[str, str]] = [("", "")]
    with Door(workspace) as door:
        while folders:
            path = _below(*folders.pop())
            try:
                with door.folder(path) as descriptor:
                    folders += _pack_folder(file, descriptor, path, budget)
            except (Failure, PermissionError) as error:
                # The agent may remove it after it was listed.
                if _gone(door, path):
                    continue
                if isinstance(error, PermissionError):
                    raise _unreadable(path) from error
                raise
    file.write(bytes(2 * _BLOCK))


def _below(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _gone(door: Door, path: str) -> bool:
    """Return whether there is no folder any more."""
    parent, _, name = path.rpartition("/")
    try:
        with door.folder(parent) as descriptor:
            return not stat.S_ISDIR(os.stat(name or ".", dir_fd=descriptor, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return True
    except Failure as failure:
        return failure.reason == errors_pb2.ERROR_REASON_FILE_NOT_FOUND


def _unreadable(path: str) -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_PATH_REFUSED,
        "A file or folder of the workspace cannot be read, so no snapshot can have it. Change its "
        "permissions or delete it.",
        path=path[:256],
    )


def _pack_folder(file: IO[bytes], folder: int, path: str, budget: Budget) -> Iterator[tuple[str, str]]:
    """Write what lies in an open folder; yield the folders in it."""
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            below = _below(path, entry.name)
            if stat.S_ISDIR(status.st_mode):
                budget.entry()
                _write_header(file, below, tarfile.DIRTYPE, status)
                yield path, entry.name
            elif stat.S_ISREG(status.st_mode):
                _pack_file(file, folder, below, budget)
            elif stat.S_ISLNK(status.st_mode):
                _pack_link(file, folder, below, status, budget)


def _pack_link(file: IO[bytes], folder: int, path: str, status: os.stat_result, budget: Budget) -> None:
    """Keep a symbolic link as what it says."""
    try:
        target = os.readlink(path.rpartition("/")[2], dir_fd=folder)
    except OSError:
        return
    budget.entry()
    _write_header(file, path, tarfile.SYMTYPE, status, target=target)


def _pack_file(file: IO[bytes], folder: int, path: str, budget: Budget) -> None:
    try:
        descriptor = _opened(path.rpartition("/")[2], folder)
    except PermissionError:
        raise _unreadable(path) from None
    except OSError:
        # The agent removed it or put something else there after it was listed.
        return
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            budget.entry(status.st_size)
            _write_header(file, path, tarfile.REGTYPE, status)
            _write_data(file, descriptor, status, budget)
    finally:
        os.close(descriptor)


def _opened(name: str, folder: int) -> int:
    try:
        return os.open(name, _FILE_FLAGS, dir_fd=folder)
    except PermissionError:
        # Its owner, who is our own user, may have taken the right away; it is given for a moment.
        held = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            place = f"/proc/self/fd/{held}"
            mode = stat.S_IMODE(os.fstat(held).st_mode)
            os.chmod(place, mode | stat.S_IRUSR)  # noqa: PTH101
            try:
                return os.open(place, _FILE_FLAGS & ~os.O_NOFOLLOW)
            finally:
                os.chmod(place, mode)  # noqa: PTH101
        finally:
            os.close(held)


def _write_header(file: IO[bytes], path: str, kind: bytes, status: os.stat_result, target: str = "") -> None:
    member = tarfile.TarInfo(path)
    member.type, member.linkname = kind, target
    # Whole seconds: a fraction costs two more blocks for each file.
    member.mtime = int(status.st_mtime)
    if kind == tarfile.REGTYPE:
        member.size = status.st_size
        # Without setuid and setgid.
        member.mode = stat.S_IMODE(status.st_mode) & 0o777
    # The same bytes, in half of the time, for names that need no header of their own.
    short = len(path) <= _SHORT and len(target) <= _SHORT and path.isascii() and target.isascii()
    plain = short and member.size < _PLAIN_BYTES and member.mtime >= 0
    if plain:
        file.write(member.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape"))
    else:
        file.write(member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))


def _write_data(file: IO[bytes], descriptor: int, status: os.stat_result, budget: Budget) -> None:
    """Write a file's data and the rest of its last block. What a file loses meanwhile is filled up."""
    size = status.st_size
    if status.st_blocks * _BLOCK >= size:
        _copy(descriptor, 0, size, file, budget)
    else:
        base = file.tell()
        for start, end in areas(descriptor, 0, size):
            file.seek(base + start)
            _copy(descriptor, start, end, file, budget)
        file.seek(base + size)
    file.write(bytes(-size % _BLOCK))


def _copy(descriptor: int, start: int, end: int, file: IO[bytes], budget: Budget) -> None:
    while start < end:
        data = os.pread(descriptor, min(_COPY_BYTES, end - start), start)
        data = data or bytes(min(_COPY_BYTES, end - start))
        budget.data(len(data))
        file.write(data)
        start += len(data)


def areas(descriptor: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield where a file has data, between two places: everywhere on a file system that knows no holes."""
    while start < end:
        try:
            start = os.lseek(descriptor, start, os.SEEK_DATA)
            hole = os.lseek(descriptor, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                # Nothing but a hole up to the end.
                return
            raise
        if start < end:
            yield start, min(hole, end)
        start = hole
