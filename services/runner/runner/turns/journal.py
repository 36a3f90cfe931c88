"""What a session's newest turn has said, on disk: a runner that was killed comes back knowing it."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from pointsman.errors.v1 import errors_pb2
from pointsman.runner.v1 import runner_service_pb2 as pb
from servicekit.durable import make_private_folder, replace_file, sync_folder
from servicekit.errors import Failure

from runner.names import SessionRef, TurnRef

# A file is a row of frames: their kind, the bytes that follow, those bytes.
_FRAME: Final = struct.Struct(">cI")
_TURN: Final = b"T"
_ITEM: Final = b"I"
_ACTS: Final = b"A"
# Sessions whose newest turn need not be read from the disk; each is some 200 bytes.
_REMEMBERED: Final = 10_000
# More than the first frame has.
_HEAD_BYTES: Final = 256


class TurnJournal(Protocol):
    """Where one running turn is written down."""

    def item(self, item: pb.RunTurnResponse) -> None:
        """Write a kept item. A killed runner has written it; a machine that lost power may not have."""
        ...

    def acts(self) -> None:
        """Write, durably, that from now on a tool of the turn may run. Blocks. Failure DISK_FULL."""
        ...

    def close(self) -> None:
        """Nothing more comes."""
        ...


@dataclass(frozen=True)
class Past:
    """What is known of a turn of a runner before this one."""

    epoch: int
    items: tuple[pb.RunTurnResponse, ...]
    acted: bool
    """Whether a tool of it may have run."""

    @property
    def finished(self) -> bool:
        """Whether the turn came to its end."""
        return bool(self.items) and self.items[-1].event.HasField("turn_finished")


class Journal:
    """A file per session below `root`, with its newest turn: at most what one turn may say."""

    def __init__(self, root: Path, sync_workspace: Callable[[SessionRef], None] = lambda _: None) -> None:
        """`sync_workspace` makes durable that a session has a workspace, before a tool writes to it."""
        self._sync_workspace = sync_workspace
        make_private_folder(root)
        self._root = root
        self.since = _since(root / "since")
        """Of every turn that began here after this time (microseconds since 1970), something is known."""
        # The newest turn of sessions that had one since this process started, and its epoch.
        self._newest: OrderedDict[SessionRef, tuple[int, str]] = OrderedDict()

    def begin(self, ref: TurnRef, epoch: int) -> TurnJournal:
        """Begin a turn, in the place of the session's turn before. Failure DISK_FULL."""
        path = self._root / ref.session.folder
        try:
            self._newest.pop(ref.session, None)
            # A new file each time: to cut the old one to nothing takes 2 ms, all before the agent is asked.
            path.unlink(missing_ok=True)
            journal = _Open(_new(path), path.parent, lambda: self._sync_workspace(ref.session))
        except OSError as error:
            raise _disk(error) from error
        try:
            journal.frame(_TURN, f"{epoch} {ref.turn_id}".encode())
            self._remember(ref, epoch)
        except OSError as error:
            journal.close()
            raise _disk(error) from error
        return journal

    def epoch(self, ref: TurnRef) -> int:
        """Return the epoch that a turn began under; 0 when its session has a newer one. Takes no time."""
        if ref.session in self._newest:
            epoch, turn_id = self._newest[ref.session]
            return epoch if turn_id == ref.turn_id else 0
        try:
            with (self._root / ref.session.folder).open("rb") as file:
                epoch, turn_id = _turn_of(next(_frames(file.read(_HEAD_BYTES)), None))
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise _unreadable(error) from error
        return epoch if turn_id == ref.turn_id else 0

    def read(self, ref: TurnRef) -> Past | None:
        """Return what is known of a turn, None when it is not its session's newest one. Blocks.

        SERVICE_UNAVAILABLE when that cannot be known now.
        """
        try:
            frames = _frames((self._root / ref.session.folder).read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(error) from error
        epoch, turn_id = _turn_of(next(frames, None))
        if turn_id != ref.turn_id:
            return None
        items: list[pb.RunTurnResponse] = []
        acted = False
        for kind, data in frames:
            if kind == _ACTS:
                acted = True
            elif kind == _ITEM:
                item = pb.RunTurnResponse.FromString(data)
                # After one that is missing nothing is known but whether a tool may have run.
                if item.index == len(items) + 1:
                    items.append(item)
        return Past(epoch, tuple(items), acted)

    def forget(self, session: SessionRef) -> None:
        """Remove a session's file."""
        self._newest.pop(session, None)
        (self._root / session.folder).unlink(missing_ok=True)

    def _remember(self, ref: TurnRef, epoch: int) -> None:
        self._newest[ref.session] = (epoch, ref.turn_id)
        self._newest.move_to_end(ref.session)
        if len(self._newest) > _REMEMBERED:
            self._newest.popitem(last=False)


class _Open:
    """A file that is being written."""

    def __init__(self, file: int, folder: Path, sync_workspace: Callable[[], None]) -> None:
        """`folder`: where the file was made just now."""
        self._sync_workspace = sync_workspace
        self._file = file
        self._new_in: Path | None = folder
        self._open = True
        # Items are written by the loop, and that a tool may run by a thread beside it.
        self._lock = threading.Lock()

    def frame(self, kind: bytes, data: bytes) -> None:
        """Write a frame, whole or not at all. Raises OSError."""
        frame = _FRAME.pack(kind, len(data)) + data
        with self._lock:
            if not self._open:
                raise OSError(errno.EBADF, "the turn is over")
            end = os.fstat(self._file).st_size
            if os.write(self._file, frame) < len(frame):
                os.ftruncate(self._file, end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def item(self, item: pb.RunTurnResponse) -> None:
        """See TurnJournal. One that the disk has no room for, and all after it, are not known later."""
        with contextlib.suppress(OSError):
            self.frame(_ITEM, item.SerializeToString())

    def acts(self) -> None:
        """See TurnJournal."""
        try:
            self._sync_workspace()
            self.frame(_ACTS, b"")
            os.fdatasync(self._file)
            if self._new_in is not None:
                sync_folder(self._new_in)
                sync_folder(self._new_in.parent)
                self._new_in = None
        except OSError as error:
            raise _disk(error) from error

    def close(self) -> None:
        """See TurnJournal."""
        with self._lock:
            if self._open:
                self._open = False
                os.close(self._file)


def _since(path: Path) -> int:
    """Return what the file says. One that says nothing begins now: less is then known than there is."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return int(path.read_text())
    now = time.time_ns() // 1000
    replace_file(path, str(now).encode())
    return now


def _new(path: Path) -> int:
    """Make a file, and its folder with the first one in it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        return os.open(path, flags, 0o600)


def _frames(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the frames up to one that is not whole."""
    start = 0
    while start + _FRAME.size <= len(data):
        kind, size = _FRAME.unpack_from(data, start)
        start += _FRAME.size
        if start + size > len(data):
            return
        yield kind, data[start : start + size]
        start += size


def _turn_of(frame: tuple[bytes, bytes] | None) -> tuple[int, str]:
    """Return epoch and turn of the first frame."""
    if frame is None or frame[0] != _TURN:
        return 0, ""
    epoch, _, turn_id = frame[1].decode().partition(" ")
    return int(epoch), turn_id


def _unreadable(error: OSError) -> Failure:
    """Return the failure of not knowing, which is another thing than that nothing is there."""
    return Failure(
        errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
        f"The runner cannot read what it has noted of the session's turns: {error.strerror}. Try again.",
        service="runner",
    )


def _disk(error: OSError) -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_DISK_FULL,
        f"The runner could not note what the turn does: {error.strerror}. Nothing more of it was run.",
    )
