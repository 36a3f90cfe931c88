"""What changed in a workspace: since a turn began, and what of it no tool has told."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import event_pb2
from servicekit.errors import Failure

from runner.bounded import bounded_text, clean
from runner.diffs import DIFF_BYTES, file_diff
from runner.names import SessionRef
from runner.workspace import manifest
from runner.workspace.manifest import Manifest, Mark
from runner.workspace.remove import remove_folder
from runner.workspace.told import ToldFiles

# Turns that can be compared with.
_KEPT_TURNS: Final = 20
_CHANGES: Final = 1000
# Of contents kept for diffs, of one session.
_OBJECT_BYTES: Final = 256 * 1024 * 1024
# Sessions whose newest manifest is known to hold; forgetting one costs a scan.
_CLEAN: Final = 10_000
_DIFF_SECONDS: Final = 2.0
# Of all diffs of one answer: a turn's end and a caller wait for them, and files can be made to take long.
_DIFFS_SECONDS: Final = 5.0
_DIFFS_BYTES: Final = 3 * 1024 * 1024


class History:
    """Manifests of sessions below `root`: one at the beginning of each of the newest turns, and the newest.

    All of it blocks; one call per session at a time.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._clean: set[SessionRef] = set()

    def touch(self, session: SessionRef) -> None:
        """Take note that others than the agent wrote to a workspace."""
        self._clean.discard(session)

    def is_clean(self, session: SessionRef) -> bool:
        """Return whether the newest manifest is how the workspace is, so that `begin` takes no time."""
        return session in self._clean

    def begin(self, session: SessionRef, turn_id: str, workspace: Path) -> None:
        """Note how a workspace is when a turn begins."""
        folder = self._folder(session)
        if not self.is_clean(session):
            found = manifest.scan(workspace, self._newest(folder), folder / "objects")
            manifest.save(found, folder / "newest.json")
            self._mark_clean(session)
        turns = folder / "turns"
        turns.mkdir(mode=0o700, parents=True, exist_ok=True)
        numbers = [int(path.name.split("-")[0]) for path in turns.glob("*.json")]
        # Written once and then replaced, never changed: a second name is a copy.
        (turns / f"{max(numbers, default=0) + 1:08}-{turn_id}.json").hardlink_to(folder / "newest.json")

    def end(
        self, session: SessionRef, workspace: Path, told: ToldFiles
    ) -> tuple[list[event_pb2.FileChange], bool]:
        """Note how it is when a turn ends; return what no event of the turn says, and whether it is cut.

        For a file in `told` that is a change since its last event, for others one since the turn's beginning.
        """
        folder = self._folder(session)
        before = self._newest(folder)
        after = manifest.scan(workspace, before, folder / "objects")
        manifest.save(after, folder / "newest.json")
        self._mark_clean(session)
        self._prune(folder)
        again = list(_changed_again(told, workspace, after, folder / "objects"))
        changes, more = self._changes(folder, before, after, skip=told)
        return [*again, *changes], more

    def since(
        self, session: SessionRef, turn_id: str, workspace: Path
    ) -> tuple[list[event_pb2.FileChange], bool]:
        """Return what changed since a turn began, '' for the newest. TURN_NOT_FOUND when that is not kept."""
        folder = self._folder(session)
        before = self._turn(folder, turn_id)
        after = manifest.scan(workspace, self._newest(folder), folder / "objects")
        return self._changes(folder, before, after, skip=ToldFiles())

    def forget(self, session: SessionRef) -> None:
        """Remove all of a session's."""
        self._clean.discard(session)
        remove_folder(self._folder(session))

    def _folder(self, session: SessionRef) -> Path:
        return self._root / session.folder

    def _mark_clean(self, session: SessionRef) -> None:
        if len(self._clean) >= _CLEAN:
            self._clean.clear()
        self._clean.add(session)

    def _newest(self, folder: Path) -> Manifest:
        try:
            return manifest.read(folder / "newest.json")
        except (FileNotFoundError, ValueError):
            return {}

    def _turn(self, folder: Path, turn_id: str) -> Manifest:
        turns = sorted((folder / "turns").glob(f"*-{turn_id}.json" if turn_id else "*.json"))
        if turns:
            with contextlib.suppress(ValueError):
                return manifest.read(turns[-1])
        raise Failure(
            errors_pb2.ERROR_REASON_TURN_NOT_FOUND,
            f"How the workspace was when that turn began is not known here; the newest {_KEPT_TURNS} "
            "turns are.",
        )

    def _prune(self, folder: Path) -> None:
        """Let go of old turns when there are many, and of more when their contents take too much."""
        count = len(list((folder / "turns").glob("*.json")))
        full = _bytes_of(folder / "objects") > _OBJECT_BYTES
        if count < 2 * _KEPT_TURNS and not full:
            return
        for kept in (_KEPT_TURNS, 1, 0):
            self._keep(folder, kept)
            if _bytes_of(folder / "objects") <= _OBJECT_BYTES:
                return

    def _keep(self, folder: Path, turns_kept: int) -> None:
        turns = sorted((folder / "turns").glob("*.json"))
        kept = turns[len(turns) - turns_kept :] if turns_kept else []
        for old in turns[: len(turns) - len(kept)]:
            old.unlink()
        used = {mark.content for path in (*kept, folder / "newest.json") for mark in _readable(path).values()}
        for content in (folder / "objects").glob("*"):
            if content.name not in used:
                content.unlink()

    def _changes(
        self, folder: Path, before: Manifest, after: Manifest, skip: ToldFiles
    ) -> tuple[list[event_pb2.FileChange], bool]:
        paths = sorted(
            path
            for path in before.keys() | after.keys()
            if path not in skip and _differs(before.get(path), after.get(path))
        )
        objects = folder / "objects"
        return list(_changed(paths[:_CHANGES], before, after, objects)), len(paths) > _CHANGES


def _readable(path: Path) -> Manifest:
    """Return a manifest, empty when a power cut left nothing of it."""
    try:
        return manifest.read(path)
    except ValueError:
        return {}


def _bytes_of(folder: Path) -> int:
    try:
        with os.scandir(folder) as entries:
            return sum(entry.stat().st_size for entry in entries)
    except FileNotFoundError:
        return 0


def _differs(old: Mark | None, new: Mark | None) -> bool:
    if old is None or new is None:
        return True
    if old.content or new.content:
        return old.content != new.content
    return (old.size, old.modified_ns) != (new.size, new.modified_ns)


def _changed(
    paths: list[str], before: Manifest, after: Manifest, objects: Path
) -> Iterator[event_pb2.FileChange]:
    """Yield changes; those whose diffs do not fit into the time and bytes of one answer come without."""
    deadline, left = time.monotonic() + _DIFFS_SECONDS, _DIFFS_BYTES
    for path in paths:
        old, new = before.get(path), after.get(path)
        seconds = min(_DIFF_SECONDS, deadline - time.monotonic())
        diff = _diff(path, old, new, objects, seconds) if left > 0 and seconds > 0 else None
        text, cut = bounded_text(diff or "", DIFF_BYTES)
        left -= len(text)
        kind = event_pb2.FILE_CHANGE_TYPE_MODIFIED
        if old is None or new is None:
            kind = event_pb2.FILE_CHANGE_TYPE_CREATED if old is None else event_pb2.FILE_CHANGE_TYPE_DELETED
        name = clean(os.fsencode(path).decode(errors="replace"))
        yield event_pb2.FileChange(path=name, type=kind, diff=text, truncated=cut or diff is None)


def _changed_again(
    told: ToldFiles, workspace: Path, after: Manifest, objects: Path
) -> Iterator[event_pb2.FileChange]:
    """Yield how files differ from what the turn's events say of them."""
    deadline = time.monotonic() + _DIFFS_SECONDS
    for path, before in told.items():
        # Folders that a scan skips can hold files that tools edit.
        mark = after.get(path) or manifest.look(workspace, path, objects)
        if before.is_still(mark):
            continue
        diff = None
        content = _content(mark, objects)
        seconds = min(_DIFF_SECONDS, deadline - time.monotonic())
        if before.content is not None and (mark is None or content is not None) and seconds > 0:
            diff = file_diff(path, before.content, content, seconds)
        text, cut = bounded_text(diff or "", DIFF_BYTES)
        modified, deleted = event_pb2.FILE_CHANGE_TYPE_MODIFIED, event_pb2.FILE_CHANGE_TYPE_DELETED
        yield event_pb2.FileChange(
            path=clean(os.fsencode(path).decode(errors="replace")),
            type=deleted if mark is None else modified,
            diff=text,
            truncated=cut or diff is None,
        )


def _content(mark: Mark | None, objects: Path) -> bytes | None:
    """Return a kept content, None when there is none."""
    if mark is None or not mark.content:
        return None
    try:
        return (objects / mark.content).read_bytes()
    except FileNotFoundError:
        return None


def _diff(path: str, old: Mark | None, new: Mark | None, objects: Path, seconds: float) -> str | None:
    """Return the diff of what is kept; None when a side is not, or the two are not to be compared."""
    if not all(mark is None or mark.content for mark in (old, new)):
        return None
    try:
        sides = [(objects / mark.content).read_bytes() if mark else None for mark in (old, new)]
    except FileNotFoundError:
        # It was let go of to make room.
        return None
    return file_diff(path, sides[0], sides[1], seconds)
