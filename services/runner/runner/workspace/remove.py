"""Removes folders that an agent has made: of any depth, with two descriptors, following no link."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from pathlib import Path
from typing import Final

# A tree that somebody goes on filling is not removed; a large one takes seconds.
_SECONDS: Final = 120.0
_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_folder(path: Path) -> None:
    """Remove a folder with all in it, if it is there. OSError when that does not work."""
    with contextlib.suppress(FileNotFoundError):
        parent = os.open(path.parent, _FLAGS)
        try:
            remove_tree(parent, path.name)
        finally:
            os.close(parent)


def remove_tree(parent: int, name: str) -> None:
    """Remove a folder below an open one. What lies deep in it is moved up first, so depth costs nothing."""
    deadline = time.monotonic() + _SECONDS
    top = _opened(parent, name)
    try:
        while names := os.listdir(top):  # noqa: PTH208 - by descriptor
            for each in names:
                _remove_entry(top, each)
            if time.monotonic() > deadline:
                raise TimeoutError(f"somebody goes on filling {name}")
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def _remove_entry(top: int, name: str) -> None:
    if _unlinked(top, name):
        return
    folder = _opened(top, name)
    try:
        for child in os.listdir(folder):  # noqa: PTH208 - by descriptor
            if not _unlinked(folder, child):
                os.rename(child, f".{secrets.token_hex(12)}", src_dir_fd=folder, dst_dir_fd=top)
    finally:
        os.close(folder)
    with contextlib.suppress(OSError):
        # When somebody put something in meanwhile, the next round sees it.
        os.rmdir(name, dir_fd=top)


def _unlinked(folder: int, name: str) -> bool:
    """Unlink what is no folder; return whether it is gone."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return True
    except (IsADirectoryError, PermissionError):
        return False
    return True


def _opened(parent: int, name: str) -> int:
    try:
        return os.open(name, _FLAGS, dir_fd=parent)
    except PermissionError:
        # The agent may take its own rights away; they are ours to give when it is our own user.
        os.chmod(name, 0o700, dir_fd=parent)
        return os.open(name, _FLAGS, dir_fd=parent)
