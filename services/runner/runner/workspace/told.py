"""Files as a turn's events described them last: the turn's end reports what is no longer true."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from runner.workspace.manifest import Mark, content_hash

# Contents that one turn keeps to compare with. What is beyond that is reported without a diff.
_CONTENT_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True)
class Told:
    """A file after the last change that was reported. `content` is None when it is not known."""

    status: os.stat_result | None
    content: bytes | None
    missing: bool = False
    """Whether it was not there, in spite of what was reported."""

    def is_still(self, mark: Mark | None) -> bool:
        """Return whether the file is as it was then; None for one that is not there."""
        if mark is None:
            return self.missing
        if self.status is not None and mark.same_file(self.status):
            return True
        return bool(mark.content) and self.content is not None and content_hash(self.content) == mark.content


class ToldFiles:
    """The files of one turn, by path. Contents are kept up to a bound, the newest first."""

    def __init__(self) -> None:
        self._files: dict[str, Told] = {}
        self._bytes = 0

    def __contains__(self, path: str) -> bool:
        return path in self._files

    def get(self, path: str) -> Told | None:
        """Return the state of a file, None when no event has reported it."""
        return self._files.get(path)

    def items(self) -> Iterator[tuple[str, Told]]:
        """Yield the files in the order of their paths."""
        yield from sorted(self._files.items())

    def add(self, path: str, told: Told) -> None:
        """Take the state of a file that an event has just reported."""
        old = self._files.pop(path, None)
        self._bytes -= len(old.content or b"") if old is not None else 0
        self._bytes += len(told.content or b"")
        self._files[path] = told
        for other, kept in self._files.items():
            if self._bytes <= _CONTENT_BYTES:
                break
            self._bytes -= len(kept.content or b"")
            self._files[other] = Told(kept.status, None)
