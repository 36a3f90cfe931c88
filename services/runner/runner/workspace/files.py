"""What callers do with a workspace's files: read, write, delete. All of it blocks; use threads."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from runner.workspace.door import Door, disk_failure, is_plain, not_found, parts_of, refused
from runner.workspace.listing import Entry, entry_of
from runner.workspace.remove import remove_tree


def open_file(root: Path, path: str) -> tuple[int, Entry]:
    """Open a plain file to read; the caller closes the descriptor. FILE_NOT_FOUND, PATH_REFUSED."""
    with Door(root) as door:
        # A fifo would otherwise make us wait for a writer.
        descriptor = door.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    status = os.fstat(descriptor)
    if not is_plain(status):
        os.close(descriptor)
        raise refused(path)
    return descriptor, entry_of("/".join(parts_of(path)), status)


def write_file(root: Path, path: str, data: bytes) -> Entry:
    """Write a file whole; readers see the old one or the new one. Folders are made as needed."""
    parts = parts_of(path)
    if not parts:
        raise refused(path)
    owner = root.stat().st_uid
    with Door(root) as door:
        door.make_folders(parts[:-1], owner)
        with door.folder("/".join(parts[:-1])) as parent:
            try:
                status = _replace(parent, parts[-1], data, owner)
            except OSError as error:
                raise disk_failure(error, path) from error
    return entry_of("/".join(parts), status)


def missing_parts(root: Path, path: str) -> int:
    """Return how many entries writing a file makes: itself and its folders, those that are missing."""
    parts = parts_of(path)
    with Door(root) as door:
        for depth in range(len(parts), 0, -1):
            try:
                with door.opened("/".join(parts[:depth]), os.O_PATH):
                    return len(parts) - depth
            except Failure as failure:
                if failure.reason != errors_pb2.ERROR_REASON_FILE_NOT_FOUND:
                    # Writing says what is wrong with it.
                    return 0
    return len(parts)


def _replace(parent: int, name: str, data: bytes, owner: int) -> os.stat_result:
    temporary = f".{secrets.token_hex(8)}.part"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600, dir_fd=parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), _mode_of(parent, name))
            if os.geteuid() == 0:
                os.fchown(file.fileno(), owner, owner)
            file.flush()
            os.fsync(file.fileno())
            status = os.fstat(file.fileno())
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        os.fsync(parent)
    except BaseException:
        os.unlink(temporary, dir_fd=parent)
        raise
    return status


def _mode_of(parent: int, name: str) -> int:
    """Return the mode of the file that is written anew, that of a new one when there is none."""
    with contextlib.suppress(FileNotFoundError):
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if is_plain(status):
            # Without setuid and setgid.
            return status.st_mode & 0o777
    return 0o644


def delete_file(root: Path, path: str) -> None:
    """Delete a file, a link, or a folder with all in it. FILE_NOT_FOUND; the workspace itself is refused."""
    parts = parts_of(path)
    if not parts:
        raise refused(path)
    with Door(root) as door, door.folder("/".join(parts[:-1])) as parent:
        try:
            status = os.stat(parts[-1], dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                remove_tree(parent, parts[-1])
            else:
                os.unlink(parts[-1], dir_fd=parent)
        except FileNotFoundError:
            raise not_found(path) from None
        except OSError as error:
            raise disk_failure(error, path) from error
