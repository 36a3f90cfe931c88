"""What a workspace holds at one moment: each file with its content's hash, and contents to make diffs of."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from servicekit.errors import Failure

from runner.sandboxes.protocol import KEPT
from runner.workspace.door import Door
from runner.workspace.listing import entry_status
from runner.workspace.set_id import SET_ID

SKIPPED: Final = frozenset(
    {
        ".git", "node_modules", "__pycache__", ".venv", "venv", ".mypy_cache", ".pytest_cache", ".cache",
        KEPT,
    }
)  # fmt: skip
"""Folders that tools fill by the thousand, and the CLI's own; what changes in them is nobody's work."""
# More is no project that somebody reviews; the rest is not compared.
_FILES: Final = 50_000
# Larger files are told as changed, without a diff.
KEPT_BYTES: Final = 256 * 1024
# Of contents that one look keeps: with the newest turn's, half of what a session may have.
_SCAN_BYTES: Final = 128 * 1024 * 1024
_DEPTH: Final = 64


@dataclass(frozen=True)
class Mark:
    """One file as it was. `content` is the hash that its content is kept under, '' when it is not kept."""

    size: int
    modified_ns: int
    changed_ns: int
    inode: int
    content: str

    def same_file(self, status: os.stat_result) -> bool:
        """Whether the file cannot have changed since: its owner cannot set the time of change."""
        return (self.size, self.modified_ns, self.changed_ns, self.inode) == (
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
            status.st_ino,
        )


Manifest = dict[str, Mark]


def scan(root: Path, before: Manifest, objects: Path) -> Manifest:
    """Look at all files, and read those that changed since `before`; contents go to `objects`. Blocks."""
    found: Manifest = {}
    left = _SCAN_BYTES
    with Door(root) as door:
        for path, status in _files(door, (), _DEPTH):
            if status.st_mode & SET_ID:
                _strip_set_id(door, path)
            known = before.get(path)
            if known is not None and known.same_file(status):
                found[path] = known
            else:
                content = _keep(door, path, status, objects) if status.st_size <= left else ""
                left -= status.st_size if content else 0
                found[path] = _mark(status, content)
            if len(found) == _FILES:
                break
    return found


def _files(door: Door, folder: tuple[str, ...], depth: int) -> Iterator[tuple[str, os.stat_result]]:
    try:
        # Entry by entry: a folder may hold any number of them.
        with door.folder("/".join(folder)) as descriptor, os.scandir(descriptor) as entries:
            for entry in entries:
                status = entry_status(descriptor, entry.name)
                if status is None:
                    continue
                if stat.S_ISREG(status.st_mode):
                    yield "/".join((*folder, entry.name)), status
                elif stat.S_ISDIR(status.st_mode) and entry.name not in SKIPPED and depth:
                    yield from _files(door, (*folder, entry.name), depth - 1)
    except (Failure, FileNotFoundError, PermissionError):
        # The agent removed it meanwhile, or closed it to its own user.
        return


def look(root: Path, path: str, objects: Path) -> Mark | None:
    """Look at one file, as `scan` does; None when it is no plain file or there is none. Blocks."""
    try:
        with Door(root) as door:
            with door.opened(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY) as descriptor:
                status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return None
            return _mark(status, _keep(door, path, status, objects))
    except (Failure, OSError):
        return None


def _mark(status: os.stat_result, content: str) -> Mark:
    return Mark(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, content)


def content_hash(content: bytes) -> str:
    """Return the hash that a content is kept under."""
    return hashlib.sha256(content).hexdigest()


def _strip_set_id(door: Door, path: str) -> None:
    with (
        contextlib.suppress(Failure, OSError),
        door.opened(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY) as descriptor,
    ):
        os.fchmod(descriptor, stat.S_IMODE(os.fstat(descriptor).st_mode) & ~SET_ID)


def _keep(door: Door, path: str, status: os.stat_result, objects: Path) -> str:
    if status.st_size > KEPT_BYTES:
        return ""
    try:
        with door.opened(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY) as descriptor:
            content = os.read(descriptor, KEPT_BYTES + 1)
    except (Failure, OSError):
        return ""
    if len(content) > KEPT_BYTES:
        return ""
    digest = content_hash(content)
    target = objects / digest
    # A power cut may have left an empty one.
    if not target.exists() or target.stat().st_size != len(content):
        objects.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = objects / f".{digest}.{os.getpid()}.{status.st_ino}"
        partial.write_bytes(content)
        partial.rename(target)
    return digest


def save(manifest: Manifest, path: Path) -> None:
    """Write a manifest, whole."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    partial.write_text(json.dumps({name: list(asdict(mark).values()) for name, mark in manifest.items()}))
    partial.rename(path)


def read(path: Path) -> Manifest:
    """Read what `save` wrote. FileNotFoundError, ValueError for what a power cut left of it."""
    return {name: Mark(*values) for name, values in json.loads(path.read_text()).items()}
