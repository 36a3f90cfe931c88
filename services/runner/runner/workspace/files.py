"""What callers do with a workspace's files: list, read, write, delete. All of it blocks; use threads."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runner.workspace.door import Door, disk_failure, is_plain, not_found, parts_of, refused
from runner.workspace.remove import remove_tree

# A tree deeper than this is nobody's project, and each level is an open folder while it is walked.
_DEPTH: Final = 64


@dataclass(frozen=True)
class Entry:
    """One thing in a workspace."""

    path: str
    kind: str
    """`file`, `directory` or `other`."""
    size: int
    modified: float
    """Seconds since 1970."""


def list_files(root: Path, folder: str, *, recursive: bool, after: str, limit: int) -> list[Entry]:
    """Return at most `limit` entries of a folder in the order of their names, after a path of that order."""
    entries: list[Entry] = []
    with Door(root) as door:
        for entry in walk(door, parts_of(folder), recursive=recursive, after=parts_of(after)):
            entries.append(entry)
            if len(entries) == limit:
                break
    return entries


def walk(
    door: Door, folder: tuple[str, ...], *, recursive: bool, after: tuple[str, ...] = ()
) -> Iterator[Entry]:
    """Yield what lies in a folder, each folder before what is in it. Links are named, never followed."""
    with door.folder("/".join(folder)) as descriptor, os.scandir(descriptor) as scan:
        found = sorted((item.name, _status(item)) for item in scan)
    for name, status in found:
        parts = (*folder, name)
        # A folder on the way to `after` has been told already, but not all that is in it.
        on_the_way = after[: len(parts)] == parts and len(after) > len(parts)
        if parts > after:
            yield _entry("/".join(parts), status)
        if recursive and stat.S_ISDIR(status.st_mode) and (on_the_way or parts > after or parts == after):
            if len(parts) >= _DEPTH:
                continue
            try:
                yield from walk(door, parts, recursive=True, after=after)
            except Exception as error:
                # The agent may remove or replace a folder while we walk.
                if getattr(error, "reason", None) is None:
                    raise


def _status(item: os.DirEntry[str]) -> os.stat_result:
    try:
        return item.stat(follow_symlinks=False)
    except FileNotFoundError:
        return os.stat_result((0,) * 10)


def _entry(path: str, status: os.stat_result) -> Entry:
    if stat.S_ISREG(status.st_mode):
        return Entry(path, "file", status.st_size, status.st_mtime)
    return Entry(path, "directory" if stat.S_ISDIR(status.st_mode) else "other", 0, status.st_mtime)


def open_file(root: Path, path: str) -> tuple[int, Entry]:
    """Open a plain file to read; the caller closes the descriptor. FILE_NOT_FOUND, PATH_REFUSED."""
    with Door(root) as door:
        # A fifo would otherwise make us wait for a writer.
        descriptor = door.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    status = os.fstat(descriptor)
    if not is_plain(status):
        os.close(descriptor)
        raise refused(path)
    return descriptor, _entry("/".join(parts_of(path)), status)


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
    return _entry("/".join(parts), status)


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
