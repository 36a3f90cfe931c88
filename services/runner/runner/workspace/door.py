"""The only way from a path in a request to a file of a workspace.

An agent may change its workspace while we walk through it, so no path is checked first and used afterwards:
the kernel resolves each one beneath the workspace's folder, and refuses to follow any link (openat2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

# The same number on every architecture, as of all system calls since 2019.
_SYS_OPENAT2: Final = 437
_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_NO_SYMLINKS: Final = 0x04
_RESOLVE_BENEATH: Final = 0x08
_RESOLVE: Final = _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS
# The kernel answers so when a name was moved while it looked; trying again is what its manual says.
_AGAIN: Final = 100

_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def parts_of(path: str) -> tuple[str, ...]:
    """Return a path's parts, none for the workspace itself. Raises Failure PATH_REFUSED when it leaves it."""
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if path.startswith("/") or ".." in parts or "\0" in path:
        raise refused(path)
    return parts


class Door:
    """Opens files below a folder. Use it within `with`; what it opened is the caller's to close."""

    def __init__(self, root: Path) -> None:
        self._root = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Door:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._root)

    def open(self, path: str, flags: int) -> int:
        """Return a descriptor. Raises Failure FILE_NOT_FOUND or PATH_REFUSED, OSError for the rest."""
        name = "/".join(parts_of(path)) or "."
        return self._open(name, flags, path)

    @contextmanager
    def opened(self, path: str, flags: int) -> Iterator[int]:
        """Open for a while."""
        descriptor = self.open(path, flags)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def folder(self, path: str) -> Iterator[int]:
        """Open a folder for a while. FILE_NOT_FOUND, PATH_REFUSED when it is none."""
        with self.opened(path, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
            yield descriptor

    def make_folders(self, parts: tuple[str, ...], owner: int) -> None:
        """Make the folders that are missing on the way, owned by the sandbox's user."""
        for depth in range(1, len(parts) + 1):
            with self.folder("/".join(parts[: depth - 1])) as parent:
                try:
                    os.mkdir(parts[depth - 1], 0o755, dir_fd=parent)
                except FileExistsError:
                    continue
                except OSError as error:
                    raise disk_failure(error, "/".join(parts)) from error
                os.fsync(parent)
            with self.folder("/".join(parts[:depth])) as made:
                # The umask of the process closes what it makes; this is the session's.
                os.fchmod(made, 0o755)
                if os.geteuid() == 0:
                    os.fchown(made, owner, owner)

    def _open(self, name: str, flags: int, path: str) -> int:
        how = _OpenHow(flags | os.O_CLOEXEC, 0, _RESOLVE)
        for _ in range(_AGAIN):
            result = _libc.syscall(
                _SYS_OPENAT2, self._root, os.fsencode(name), ctypes.byref(how), ctypes.sizeof(how)
            )
            if result >= 0:
                return int(result)
            if ctypes.get_errno() not in (errno.EAGAIN, errno.EINTR):
                break
        number = ctypes.get_errno()
        if number == errno.ENOENT:
            raise not_found(path)
        if number in (errno.ELOOP, errno.EXDEV, errno.ENOTDIR, errno.ENXIO, errno.EAGAIN, errno.ENAMETOOLONG):
            raise refused(path)
        raise OSError(number, os.strerror(number), path)


def is_plain(status: os.stat_result) -> bool:
    """Return whether it is a plain file."""
    return stat.S_ISREG(status.st_mode)


def refused(path: str) -> Failure:
    """Return the failure for a path that is none of the workspace's."""
    return Failure(
        errors_pb2.ERROR_REASON_PATH_REFUSED,
        "The path leaves the workspace, passes a link, or does not name what the call is for. Paths are "
        "relative to the workspace, such as src/app.py.",
        path=path.replace("\0", "\\0")[:256],
    )


def not_found(path: str) -> Failure:
    """Return the failure for a path that nothing lies at."""
    return Failure(errors_pb2.ERROR_REASON_FILE_NOT_FOUND, f"The workspace has no {path!r}.", path=path[:256])


def disk_failure(error: OSError, path: str) -> Failure:
    """Return the failure for what the disk refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure(
            errors_pb2.ERROR_REASON_DISK_FULL, "The runner's disk is full; free some space and try again."
        )
    if error.errno in (
        errno.EISDIR,
        errno.ENOTDIR,
        errno.ENOTEMPTY,
        errno.EEXIST,
        errno.ENAMETOOLONG,
        errno.ELOOP,
    ):
        return refused(path)
    if error.errno == errno.ENOENT:
        return not_found(path)
    return Failure(
        errors_pb2.ERROR_REASON_INTERNAL,
        f"The workspace could not be used: {error.strerror}.",
        path=path[:256],
    )
