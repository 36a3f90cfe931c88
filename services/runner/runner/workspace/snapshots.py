"""Snapshots: a workspace kept as one file, and workspaces made from it, wholly or not at all.

A snapshot is a tar file that is read back as if an enemy had written it: every entry goes through the door,
so nothing lands outside of the new folder, whatever links the archive holds; count and bytes are bounded.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from pointsman.errors.v1 import errors_pb2
from servicekit.durable import make_private_folder, sync_folder
from servicekit.errors import Failure

from runner.names import SessionRef, tenant_folder
from runner.workspace.door import Door, disk_failure, parts_of
from runner.workspace.files import Entry, open_file, walk
from runner.workspace.remove import remove_folder

# A large repository with its dependencies has a tenth of that.
_ENTRIES: Final = 500_000
_COPY_BYTES: Final = 1024 * 1024
_SYS_RENAMEAT2: Final = {"x86_64": 316, "aarch64": 276}
_RENAME_EXCHANGE: Final = 2
_AT_FDCWD: Final = -100

_libc = ctypes.CDLL(None, use_errno=True)


class Snapshots:
    """Snapshots of tenants below `root`. A folder that runners share lets a session move between them."""

    def __init__(self, root: Path, limit_bytes: int) -> None:
        self._root = root
        self._limit = limit_bytes

    def create(self, session: SessionRef, snapshot_id: str, workspace: Path) -> int:
        """Keep a workspace; return the bytes of its files. Idempotent by the id. Blocks."""
        target = self._path(session.tenant, snapshot_id)
        if not target.exists():
            make_private_folder(target.parent)
            partial = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
            try:
                with partial.open("wb") as file:
                    _pack(workspace, file, self._limit)
                    file.flush()
                    os.fsync(file.fileno())
                partial.rename(target)
                sync_folder(target.parent)
            except OSError as error:
                raise disk_failure(error, snapshot_id) from error
            finally:
                partial.unlink(missing_ok=True)
        return self._size(target)

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

    def restore(self, session: SessionRef, snapshot_id: str, workspace: Path) -> None:
        """Make a workspace what a snapshot holds. Nobody may use the workspace meanwhile. Blocks.

        Raises Failure SNAPSHOT_NOT_FOUND, WORKSPACE_FULL, PATH_REFUSED for an archive that is none of ours.
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
            with source.open("rb") as file:
                _unpack(file, fresh, owner, self._limit)
            _exchange(fresh, workspace)
        except OSError as error:
            raise disk_failure(error, snapshot_id) from error
        finally:
            remove_folder(fresh)

    def delete(self, tenant: str, snapshot_id: str) -> None:
        """Delete a snapshot. Idempotent."""
        self._path(tenant, snapshot_id).unlink(missing_ok=True)

    def _path(self, tenant: str, snapshot_id: str) -> Path:
        return self._root / tenant_folder(tenant) / f"{snapshot_id.lower()}.tar"

    def _size(self, path: Path) -> int:
        with tarfile.open(path, "r:") as archive:
            return sum(member.size for member in archive)


def _not_here(snapshot_id: str) -> Failure:
    return Failure(errors_pb2.ERROR_REASON_SNAPSHOT_NOT_FOUND, f"There is no snapshot {snapshot_id} here.")


def _pack(workspace: Path, file: IO[bytes], limit: int) -> None:
    """Write an archive. What could not be restored is not made: names count their files' whole length."""
    count = size = 0
    with tarfile.open(fileobj=file, mode="w:", format=tarfile.PAX_FORMAT) as archive, Door(workspace) as door:
        for entry in walk(door, (), recursive=True):
            count, size = count + 1, size + entry.size
            _check(count, size, limit)
            try:
                _add(archive, workspace, door, entry)
            except Failure:
                # The agent removed or replaced it after it was listed.
                continue


def _check(count: int, size: int, limit: int) -> None:
    if size > limit or count > _ENTRIES:
        raise Failure(
            errors_pb2.ERROR_REASON_WORKSPACE_FULL,
            f"A snapshot may have {limit} bytes and {_ENTRIES} entries, links and holes counted in full.",
            limit=str(limit),
        )


def _add(archive: tarfile.TarFile, workspace: Path, door: Door, entry: Entry) -> None:
    member = tarfile.TarInfo(entry.path)
    member.mtime = entry.modified
    if entry.kind == "directory":
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
    elif entry.kind == "file":
        descriptor, _ = open_file(workspace, entry.path)
        with os.fdopen(descriptor, "rb") as content:
            status = os.fstat(descriptor)
            # It may have grown since it was counted; what is over is left out.
            member.size = min(status.st_size, entry.size)
            # Without setuid and setgid.
            member.mode = stat.S_IMODE(status.st_mode) & 0o777
            # A file that shrinks while it is read is filled up, so that the archive stays whole.
            archive.addfile(member, _Padded(content))  # type: ignore[arg-type]
    else:
        _add_link(archive, door, member)


def _add_link(archive: tarfile.TarFile, door: Door, member: tarfile.TarInfo) -> None:
    """Keep a symbolic link as what it says; sockets, fifos and the like are left out."""
    parts = parts_of(member.name)
    with door.folder("/".join(parts[:-1])) as parent:
        try:
            target = os.readlink(parts[-1], dir_fd=parent)
        except OSError:
            return
    member.type, member.linkname = tarfile.SYMTYPE, target
    archive.addfile(member)


class _Padded:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        return data + bytes(size - len(data))


def _unpack(file: IO[bytes], folder: Path, owner: int, limit: int) -> None:
    count = size = 0
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive, Door(folder) as door:
            for member in archive:
                count += 1
                size += member.size if member.isreg() else 0
                _check(count, size, limit)
                _extract(archive, member, door, owner)
    except tarfile.TarError as error:
        raise Failure(
            errors_pb2.ERROR_REASON_PATH_REFUSED, f"The snapshot is not readable: {error}.", path=""
        ) from error


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, door: Door, owner: int) -> None:
    parts = parts_of(member.name)
    if not parts:
        return
    if member.isdir():
        door.make_folders(parts, owner)
        return
    door.make_folders(parts[:-1], owner)
    with door.folder("/".join(parts[:-1])) as parent:
        if member.issym():
            os.symlink(member.linkname, parts[-1], dir_fd=parent)
            _own_entry(parts[-1], parent, owner)
            return
        content = archive.extractfile(member) if member.isreg() else None
        if content is None:
            # Hard links, devices, fifos: we never write them, so somebody else did.
            raise Failure(
                errors_pb2.ERROR_REASON_PATH_REFUSED,
                "The snapshot holds something that is no file, folder or symbolic link.",
                path=member.name[:256],
            )
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(parts[-1], flags, 0o600, dir_fd=parent)
        with os.fdopen(descriptor, "wb") as file:
            # Whatever the archive says: no setuid, no setgid.
            os.fchmod(descriptor, member.mode & 0o777 | 0o600)
            shutil.copyfileobj(content, file, _COPY_BYTES)
            _own(descriptor, owner)
        os.utime(parts[-1], (member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)


def _own(place: Path | int, owner: int) -> None:
    if os.geteuid() == 0:
        os.chown(place, owner, owner)


def _own_entry(name: str, parent: int, owner: int) -> None:
    if os.geteuid() == 0:
        os.chown(name, owner, owner, dir_fd=parent, follow_symlinks=False)


def _exchange(one: Path, other: Path) -> None:
    """Swap two folders at one moment: whoever looks finds the old one whole or the new one whole."""
    call: Callable[..., int] = _libc.syscall
    number = _SYS_RENAMEAT2[os.uname().machine]
    if call(number, _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
