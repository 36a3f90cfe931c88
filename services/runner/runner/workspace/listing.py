"""Pages of a workspace's files, in time and memory that do not depend on how many files there are.

A folder of at most 5,000 entries is listed by name. A larger one is listed in the order of its file system,
which says itself where to go on. Either way each entry that is there throughout is listed once, whatever is
added and removed between pages. All of it blocks; use threads.
"""

from __future__ import annotations

import base64
import binascii
import ctypes
import heapq
import os
import stat
import struct
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from runner.sandboxes.protocol import KEPT
from runner.workspace.door import Door, parts_of

# Sorting more than that for each page costs more than a page.
SORTED_ENTRIES: Final = 5_000
# A tree deeper than this is nobody's project, and each level is an open folder while it is walked.
DEPTH: Final = 64
_BUFFER_BYTES: Final = 32 * 1024
# linux_dirent64: inode, where the next entry is, length of this one, type. The name follows.
_HEAD: Final = struct.Struct("=QqHB")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.getdents64.restype = ctypes.c_ssize_t
_libc.getdents64.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)


@dataclass(frozen=True)
class Entry:
    """One thing in a workspace."""

    path: str
    kind: str
    """`file`, `directory` or `other`."""
    size: int
    modified: float
    """Seconds since 1970."""


@dataclass(frozen=True)
class Step:
    """One name on the way to where a page ended. `cursor` is where its folder goes on, None by name."""

    name: str
    cursor: int | None = None


Position = tuple[Step, ...]


def list_files(
    root: Path, folder: str, *, recursive: bool, token: str, limit: int
) -> tuple[list[Entry], str]:
    """Return at most `limit` entries of a folder after those of the page with this token, and the next token.

    '' asks for the first page, and is returned with the last. Raises Failure PAGE_TOKEN_INVALID. Listing the
    workspace itself leaves out KEPT, which is the agent's own and has to be asked for by its name.
    """
    parts = parts_of(folder)
    left_out = KEPT if not parts else ""
    after = _position(token, len(parts))
    with (
        Door(root) as door,
        closing(walk(door, parts, recursive=recursive, after=after, left_out=left_out)) as found,
    ):
        # One more than asked for tells whether there is a next page.
        page = list(islice(found, limit + 1))
    more = len(page) > limit
    return [entry for entry, _ in page[:limit]], _token(page[limit - 1][1]) if more else ""


def walk(
    door: Door, folder: tuple[str, ...], *, recursive: bool, after: Position = (), left_out: str = ""
) -> Generator[tuple[Entry, Position], None, None]:
    """Yield what is in a folder, each folder before what is in it. Links are named, never followed.

    `left_out` is the name of an entry of this very folder that is passed over with all that is in it.
    """
    with door.folder("/".join(folder)) as descriptor:
        if len(after) > 1 and recursive:
            # All that is in it comes before what follows it.
            yield from _inside(door, folder, after[0], after[1:])
        elif after and recursive:
            yield from _inside(door, folder, after[0], ())
        for step in steps(descriptor, after[0] if after else None):
            status = entry_status(descriptor, step.name) if step.name != left_out else None
            if status is None:
                continue
            yield entry_of("/".join((*folder, step.name)), status), (step,)
            if recursive and stat.S_ISDIR(status.st_mode):
                yield from _inside(door, folder, step, ())


def _inside(
    door: Door, folder: tuple[str, ...], step: Step, after: Position
) -> Iterator[tuple[Entry, Position]]:
    below = (*folder, step.name)
    if len(below) > DEPTH:
        return
    try:
        for entry, position in walk(door, below, recursive=True, after=after):
            yield entry, (step, *position)
    except Failure as failure:
        # The agent may remove or replace a folder while it is listed; a file is none.
        if failure.reason == errors_pb2.ERROR_REASON_PAGE_TOKEN_INVALID:
            raise


def steps(folder: int, after: Step | None = None) -> Iterator[Step]:
    """Yield the names in an open folder, after one of them: by name, or a large folder in its own order."""
    if after is None:
        first = list(islice(_entries(folder), SORTED_ENTRIES + 1))
        if len(first) <= SORTED_ENTRIES:
            yield from (Step(step.name) for step in sorted(first, key=lambda step: step.name))
        else:
            del first
            yield from _entries(folder)
    elif after.cursor is not None:
        yield from _entries(folder, after.cursor)
    else:
        yield from _by_name(folder, after.name)


def _by_name(folder: int, name: str) -> Iterator[Step]:
    """Yield names after a name: also when the folder has become large since its first page."""
    while True:
        later = (step.name for step in _entries(folder) if step.name > name)
        batch = heapq.nsmallest(SORTED_ENTRIES, later)
        yield from map(Step, batch)
        if len(batch) < SORTED_ENTRIES:
            return
        name = batch[-1]


def _entries(folder: int, cursor: int = 0) -> Iterator[Step]:
    """Yield names in the folder's own order, with where each is behind, from a cursor on."""
    try:
        os.lseek(folder, cursor, os.SEEK_SET)
    except (OSError, OverflowError):
        raise _token_invalid() from None
    buffer = ctypes.create_string_buffer(_BUFFER_BYTES)
    while (filled := _libc.getdents64(folder, buffer, _BUFFER_BYTES)) > 0:
        raw, at = buffer.raw, 0
        while at < filled:
            _, cursor, length, _ = _HEAD.unpack_from(raw, at)
            name = raw[at + _HEAD.size : at + length].split(b"\0", 1)[0]
            at += length
            if name not in (b".", b".."):
                yield Step(os.fsdecode(name), cursor)
    if filled < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def entry_status(folder: int, name: str) -> os.stat_result | None:
    """Return what an entry is, None when it went away."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def entry_of(path: str, status: os.stat_result) -> Entry:
    """Return an entry as callers see it."""
    if stat.S_ISREG(status.st_mode):
        return Entry(path, "file", status.st_size, status.st_mtime)
    return Entry(path, "directory" if stat.S_ISDIR(status.st_mode) else "other", 0, status.st_mtime)


def _token(position: Position) -> str:
    steps = [
        os.fsencode(step.name) + (b"" if step.cursor is None else b"\0%d" % step.cursor) for step in position
    ]
    return base64.urlsafe_b64encode(b"/".join(steps)).decode()


def _position(token: str, depth: int) -> Position:
    """Read a token. It comes from outside, and is worth no more than a path and numbers."""
    if not token:
        return ()
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
        position = tuple(_step(part) for part in raw.split(b"/"))
    except (binascii.Error, ValueError, OverflowError):
        raise _token_invalid() from None
    if any(step.name in ("", ".", "..") for step in position) or len(position) + depth > DEPTH + 1:
        raise _token_invalid()
    return position


def _step(raw: bytes) -> Step:
    name, _, cursor = raw.partition(b"\0")
    return Step(os.fsdecode(name), int(cursor) if cursor else None)


def _token_invalid() -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_PAGE_TOKEN_INVALID,
        "page_token is not one that this listing gave out; leave it out to begin again.",
    )
