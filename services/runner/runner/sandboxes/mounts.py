"""Mounts of folders that are held by a descriptor: made without looking any path up (Linux 5.12).

A detached mount lies nowhere; who holds its descriptor may put it somewhere, in any mount namespace. So this
is a program, too, which bubblewrap's launcher runs in the sandbox's namespace while that is still root's:

    python -IS mounts.py 13=/run/pointsman/stage/shared.a 14=… -- command…

puts what it has as descriptors on these folders, and becomes the command.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Final

# The same numbers on every architecture.
_SYS_OPEN_TREE: Final = 428
_SYS_MOVE_MOUNT: Final = 429
_SYS_MOUNT_SETATTR: Final = 442
_AT_EMPTY_PATH: Final = 0x1000
_OPEN_TREE_CLONE: Final = 1
_MOVE_MOUNT_F_EMPTY_PATH: Final = 0x4
_AT_FDCWD: Final = -100
_READ_ONLY: Final = 0x1
_NOSUID: Final = 0x2
_NODEV: Final = 0x4
_MNT_DETACH: Final = 0x2
_UMOUNT_NOFOLLOW: Final = 0x8

_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def detached(folder: int) -> int:
    """Return a detached mount of an open folder: read-only, no setuid, no devices. The caller's to close.

    Needs root. OSError when the kernel refuses.
    """
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH
    tree = _checked(_libc.syscall(_SYS_OPEN_TREE, folder, b"", flags))
    try:
        attributes = _MountAttr(_READ_ONLY | _NOSUID | _NODEV, 0, 0, 0)
        _checked(
            _libc.syscall(
                _SYS_MOUNT_SETATTR,
                tree,
                b"",
                _AT_EMPTY_PATH,
                ctypes.byref(attributes),
                ctypes.sizeof(attributes),
            )
        )
    except OSError:
        os.close(tree)
        raise
    return tree


def attach(tree: int, path: Path) -> None:
    """Put a detached mount on a folder of the caller's own. OSError."""
    target = os.fsencode(path)
    _checked(_libc.syscall(_SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, target, _MOVE_MOUNT_F_EMPTY_PATH))


def take_off(path: Path) -> None:
    """Take off what is mounted on a path; those who see it elsewhere still do. OSError."""
    _checked(_libc.umount2(os.fsencode(path), _MNT_DETACH | _UMOUNT_NOFOLLOW))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _main(arguments: list[str]) -> None:
    end = arguments.index("--")
    for pair in arguments[:end]:
        number, _, target = pair.partition("=")
        Path(target).mkdir()
        attach(int(number), Path(target))
        # The sandbox is not to inherit it.
        os.close(int(number))
    os.execvp(arguments[end + 1], arguments[end + 1 :])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    _main(sys.argv[1:])
