"""Snapshots: a workspace kept as one file, and workspaces made from it, wholly or not at all.

A file gets its name when it is whole. Until then it has none, so that nothing is left of a runner that is
killed; where the file system knows no such files, the next start removes what has a name.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pointsman.errors.v1 import errors_pb2
from servicekit.durable import make_private_folder, sync_folder
from servicekit.errors import Failure

from runner.names import SessionRef, tenant_folder
from runner.sandboxes.protocol import Limits
from runner.workspace.door import disk_failure
from runner.workspace.pack import Budget, StoppedError, pack
from runner.workspace.remove import remove_folder
from runner.workspace.unpack import unpack

_COPY_BYTES: Final = 1024 * 1024
# No file of a snapshot that is being made is older: its call has a deadline.
_LEFT_OVER_SECONDS: Final = 3600.0
# Of all files with their holes: half of the largest file that ext4 takes.
_LENGTH: Final = 1 << 43
# No snapshot's file has such a name.
_OWNED: Final = "sessions"
_SYS_RENAMEAT2: Final = {"x86_64": 316, "aarch64": 276}
_RENAME_EXCHANGE: Final = 2
_AT_FDCWD: Final = -100

_libc = ctypes.CDLL(None, use_errno=True)


class Snapshots:
    """Snapshots of tenants below `root`. A folder that runners share lets a session move between them."""

    def __init__(self, root: Path, limits: Limits) -> None:
        self._root = root
        self._limits = limits

    def create(
        self,
        session: SessionRef,
        snapshot_id: str,
        workspace: Path,
        *,
        stop: threading.Event,
        owned: bool = False,
        max_bytes: int = 0,
    ) -> tuple[int, bool]:
        """Keep a workspace; return the bytes of its files, holes included, and whether it is new. Blocks.

        Idempotent by the id. One that is `owned` is deleted with its session. `max_bytes` is what its files
        may have, 0 for no such limit. Failure WORKSPACE_FULL, SNAPSHOT_LIMIT, PATH_REFUSED, DISK_FULL;
        StoppedError. Then nothing is kept.
        """
        target = self._path(session.tenant, snapshot_id)
        if target.exists():
            return _size(target), False
        budget = self._budget(max_bytes, stop)
        try:
            make_private_folder(target.parent)
            if owned:
                self._own(session, snapshot_id)
            with _Unnamed(target) as file:
                pack(workspace, file.stream, budget)
                file.keep(stop)
        except OSError as error:
            raise disk_failure(error, snapshot_id) from error
        finally:
            if owned and not target.exists():
                self._disown(session, snapshot_id)
        return budget.length, True

    def keep_again(self, session: SessionRef, snapshot_id: str, source_id: str) -> None:
        """Keep what another snapshot holds under one more id. Idempotent. Blocks for a moment only.

        Takes no space: the file of a snapshot is never written again, so both ids can name the same one.
        Raises Failure SNAPSHOT_NOT_FOUND.
        """
        target = self._path(session.tenant, snapshot_id)
        if not target.exists():
            source = self._path(session.tenant, source_id)
            if not source.is_file():
                raise _not_here(source_id)
            try:
                target.hardlink_to(source)
                sync_folder(target.parent)
            except FileExistsError:
                # The same call, at the same moment, was faster.
                pass
            except OSError as error:
                raise disk_failure(error, snapshot_id) from error

    def restore(self, session: SessionRef, snapshot_id: str, workspace: Path, stop: threading.Event) -> None:
        """Make a workspace what a snapshot holds. Nobody may use the workspace meanwhile. Blocks.

        Raises Failure SNAPSHOT_NOT_FOUND, WORKSPACE_FULL, PATH_REFUSED for an archive that is none of ours;
        StoppedError. Then the workspace is as it was.
        """
        source = self._path(session.tenant, snapshot_id)
        if not source.is_file():
            raise _not_here(snapshot_id)
        fresh = workspace.with_name(f".{workspace.name}.{secrets.token_hex(8)}")
        owner = workspace.stat().st_uid
        try:
            fresh.mkdir(mode=0o755)
            # The umask of the process closes what it makes; this is the session's.
            fresh.chmod(0o755)
            _own(fresh, owner)
            unpack(source, fresh, owner, self._budget(0, stop))
            _exchange(fresh, workspace)
        except OSError as error:
            raise disk_failure(error, snapshot_id) from error
        finally:
            remove_folder(fresh)

    def delete(self, tenant: str, snapshot_id: str, session_id: str = "") -> None:
        """Delete a snapshot, of a session that owns it if it is given. Idempotent."""
        self._path(tenant, snapshot_id).unlink(missing_ok=True)
        if session_id:
            self._disown(SessionRef(tenant, session_id), snapshot_id)

    def delete_owned(self, session: SessionRef) -> None:
        """Delete what a session owns, also what nobody was told of. Idempotent."""
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self._owned(session)):  # noqa: PTH208 - names only
                self.delete(session.tenant, name, session.session_id)
            self._owned(session).rmdir()

    def clear_left_over(self) -> None:
        """Remove what a runner that was killed has left half written, if it is not another runner's."""
        before = time.time() - _LEFT_OVER_SECONDS
        for partial in self._root.glob("*/.*.tar.*"):
            with contextlib.suppress(FileNotFoundError):
                if partial.stat().st_mtime < before:
                    partial.unlink()

    def _budget(self, max_length: int, stop: threading.Event) -> Budget:
        limits = self._limits
        return Budget(limits.workspace_bytes, limits.workspace_entries, max_length or _LENGTH, stop)

    def _path(self, tenant: str, snapshot_id: str) -> Path:
        return self._root / tenant_folder(tenant) / f"{snapshot_id.lower()}.tar"

    def _owned(self, session: SessionRef) -> Path:
        return self._root / tenant_folder(session.tenant) / _OWNED / session.session_id

    def _own(self, session: SessionRef, snapshot_id: str) -> None:
        """Note whose it is before it is there."""
        folder = self._owned(session)
        make_private_folder(folder)
        (folder / snapshot_id.lower()).touch()

    def _disown(self, session: SessionRef, snapshot_id: str) -> None:
        (self._owned(session) / snapshot_id.lower()).unlink(missing_ok=True)


class _Unnamed:
    """A file that has its name only when it is kept; otherwise it is gone when it is left."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._partial: Path | None = None
        try:
            descriptor = os.open(target.parent, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        except OSError:
            # Some network file systems have none.
            self._partial = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
            descriptor = os.open(self._partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        self.stream = os.fdopen(descriptor, "wb", _COPY_BYTES)

    def __enter__(self) -> _Unnamed:
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            # A full disk does not take what the buffer still holds, which is of no use any more.
            with contextlib.suppress(OSError):
                self.stream.close()
        finally:
            if self._partial is not None:
                self._partial.unlink(missing_ok=True)

    def keep(self, stop: threading.Event) -> None:
        """Give it its name, synced. Whoever stops it before that gets StoppedError, and no file."""
        self.stream.flush()
        os.fsync(self.stream.fileno())
        if stop.is_set():
            raise StoppedError
        with contextlib.suppress(FileExistsError):
            # The same call, at the same moment, may have been faster.
            if self._partial is not None:
                self._target.hardlink_to(self._partial)
            else:
                source = f"/proc/self/fd/{self.stream.fileno()}"
                # Only with a folder given it is linkat, which follows that link to the file itself.
                folder = os.open(self._target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    os.link(source, self._target.name, dst_dir_fd=folder, follow_symlinks=True)
                finally:
                    os.close(folder)
        sync_folder(self._target.parent)


def _size(path: Path) -> int:
    size = 0
    with tarfile.open(path, "r:") as archive:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]
            size += member.size
    return size


def _not_here(snapshot_id: str) -> Failure:
    return Failure(errors_pb2.ERROR_REASON_SNAPSHOT_NOT_FOUND, f"There is no snapshot {snapshot_id} here.")


def _own(place: Path | int, owner: int) -> None:
    if os.geteuid() == 0:
        os.chown(place, owner, owner)


def _exchange(one: Path, other: Path) -> None:
    """Swap two folders at one moment: whoever looks finds the old one whole or the new one whole."""
    call: Callable[..., int] = _libc.syscall
    number = _SYS_RENAMEAT2[os.uname().machine]
    if call(number, _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
