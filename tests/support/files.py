"""Folders that others are at work in: what goes away while one looks is left out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def below(folder: Path) -> Iterator[Path]:
    """All files and folders below one."""
    for top, folders, files in os.walk(folder):
        yield from (Path(top, name) for name in (*folders, *files))


def contents(folder: Path) -> dict[Path, bytes]:
    """What is in all files below a folder."""
    found = {}
    for path in below(folder):
        if path.is_file() and not path.is_symlink():
            with suppress(FileNotFoundError):
                found[path] = path.read_bytes()
    return found
