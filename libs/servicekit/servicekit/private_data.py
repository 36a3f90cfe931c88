"""The data directory belongs to one user of the machine, and no other user may look into it."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import stat
from pathlib import Path, PurePosixPath
from typing import Final

from servicekit.durable import PRIVATE_FOLDER, make_private_folder

_OTHERS: Final = 0o077
_MODES: Final = 0o7777
# Below this depth a folder that is closed already is not searched: it may hold a million files.
_SEARCHED: Final = 2


class NotPrivate(Exception):  # noqa: N818 - it is an answer, not a fault
    """The directory cannot be closed to other users: it, or something in it, belongs to one. One line."""


def no_files_for_others() -> None:
    """Let this process and what it starts make files for its own user only, and leave no core dumps.

    A core dump has keys in it. What must be readable for others gets its mode set, one by one.
    """
    os.umask(_OTHERS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def open_private(path: Path) -> Path:
    """Make the data directory, or close one that is there to other users, with all in it.

    Return its real path.

    Files of workspaces keep the modes that their users gave them: the folders above them are closed. Nothing
    is followed out of the directory. Raises NotPrivate, OSError.
    """
    # A link may lead to it: where it leads is the directory, now and later.
    real = Path(os.path.realpath(path))
    make_private_folder(real)
    descriptor = os.open(real, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        was_open = _close(descriptor, str(real), real)
        _close_children(descriptor, PurePosixPath(), real, was_open=was_open)
    finally:
        os.close(descriptor)
    return real


def _of_sandboxes(place: PurePosixPath) -> bool:
    """Return whether it belongs to sandboxes and their users, below a folder that is closed."""
    match place.parts:
        case ("runner", "workspaces", tenant, _):
            return tenant != "accounts"
        case ("runner", "sandboxes" | "docker", _):
            return True
    return False


def _check_owner(status: os.stat_result, place: str, root: Path) -> None:
    if status.st_uid != os.geteuid():
        raise NotPrivate(
            f"{place} belongs to user {status.st_uid}, and this process runs as user {os.geteuid()}. That "
            f"user could read or replace what is kept there. Make it yours (chown -R {os.geteuid()} {root}), "
            "or set POINTSMAN_DATA_DIR to another directory"
        )


def _close(descriptor: int, place: str, root: Path) -> bool:
    """Close an open folder or file; return whether others could do something with it."""
    status = os.fstat(descriptor)
    _check_owner(status, place, root)
    mode = stat.S_IMODE(status.st_mode)
    if mode & ~PRIVATE_FOLDER & _MODES:
        os.fchmod(descriptor, mode & PRIVATE_FOLDER)
    return bool(mode & _OTHERS)


def _close_children(folder: int, below: PurePosixPath, root: Path, *, was_open: bool) -> None:
    for name in os.listdir(folder):
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            continue
        place = below / name
        if _of_sandboxes(place) or stat.S_ISLNK(status.st_mode):
            continue
        _check_owner(status, str(root / place), root)
        # A service that runs already may have removed it.
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(status.st_mode):
                _close_folder(folder, place, root, was_open=was_open)
            elif was_open or len(place.parts) <= _SEARCHED:
                _close_file(folder, name, str(root / place), root)


def _close_folder(parent: int, place: PurePosixPath, root: Path, *, was_open: bool) -> None:
    """Close a folder and what is in it. It comes last, so that the next run notices an interrupted one."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(place.name, flags, dir_fd=parent)
    try:
        was_open = was_open or bool(os.fstat(descriptor).st_mode & _OTHERS)
        if was_open or len(place.parts) <= _SEARCHED:
            _close_children(descriptor, place, root, was_open=was_open)
        _close(descriptor, str(root / place), root)
    finally:
        os.close(descriptor)


def _close_file(parent: int, name: str, place: str, root: Path) -> None:
    # O_PATH would not let its mode be set; a fifo must not make us wait, and a socket cannot be opened.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=parent)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return
        raise
    try:
        _close(descriptor, place, root)
    finally:
        os.close(descriptor)
