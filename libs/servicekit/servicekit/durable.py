"""Files that survive a power cut, and are whole whenever they have their name.

A power cut may take everything that was not synced: the contents of a file until `fsync` of the file,
its name until `fsync` of its folder. So each file here is written under another name, synced, and given
its name in one step, and its folder is synced, before the caller goes on.

Everything blocks. OSError when the disk refuses.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Final

PRIVATE_FILE: Final = 0o600
PRIVATE_FOLDER: Final = 0o700


def sync_folder(folder: Path) -> None:
    """Sync which names a folder has."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_private_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing, that only this user may enter. Synced."""
    if folder.is_dir():
        return
    make_private_folder(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=PRIVATE_FOLDER)
        sync_folder(folder.parent)


def replace_file(path: Path, data: bytes, mode: int = PRIVATE_FILE) -> None:
    """Give a file these contents: whoever reads it, also after a power cut, gets the old ones or these."""
    draft = _draft(path, data, mode)
    try:
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def create_file(path: Path, data: bytes, mode: int = PRIVATE_FILE) -> bool:
    """Make a file that is not there yet; return whether it was made. An existing one stays as it is.

    Of several processes that call it at the same moment one makes the file. It is durable for all of them.
    """
    draft = _draft(path, data, mode)
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
        sync_folder(path.parent)
    return True


def _draft(path: Path, data: bytes, mode: int) -> Path:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    # Never readable by others, also not before the mode is set.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(draft, flags, PRIVATE_FILE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return draft
