"""Nothing outside of a workspace is reached, however the agent moves things while we look."""

from __future__ import annotations

import io
import os
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from pointsman.errors.v1 import errors_pb2
from runner.names import SessionRef, tenant_folder
from runner.workspace import files
from runner.workspace.snapshots import Snapshots, _exchange
from servicekit.errors import Failure

SWAPS = 10_000
SESSION = SessionRef("acme", "6f1a3b1e-0000-4000-8000-000000000001")
SNAPSHOT = "6f1a3b1e-0000-4000-8000-000000000002"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "file").write_text("secret")
    return folder


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "file").write_text("mine")
    return folder


def while_swapping(workspace: Path, outside: Path, act: Callable[[], object]) -> int:
    """Swap `a` with a link to the outside, ten thousand times, while acting; return how often it acted."""
    (workspace / "b").symlink_to(outside)
    done = threading.Event()

    def swap() -> None:
        for _ in range(SWAPS):
            _exchange(workspace / "a", workspace / "b")
        done.set()

    swapping = threading.Thread(target=swap)
    swapping.start()
    acted = 0
    while not done.is_set():
        try:
            act()
            acted += 1
        except Failure as failure:
            assert failure.reason in (
                errors_pb2.ERROR_REASON_PATH_REFUSED,
                errors_pb2.ERROR_REASON_FILE_NOT_FOUND,
            )
    swapping.join()
    return acted


def test_reading_never_follows_a_link_that_is_swapped_in(workspace: Path, outside: Path) -> None:
    def read() -> None:
        descriptor, _ = files.open_file(workspace, "a/file")
        with os.fdopen(descriptor) as file:
            assert file.read() == "mine"

    assert while_swapping(workspace, outside, read) > 0


def test_writing_never_follows_a_link_that_is_swapped_in(workspace: Path, outside: Path) -> None:
    while_swapping(workspace, outside, lambda: files.write_file(workspace, "a/new/file", b"x"))
    assert sorted(path.name for path in outside.iterdir()) == ["file"]
    assert (outside / "file").read_text() == "secret"


def test_deleting_never_follows_a_link_that_is_swapped_in(workspace: Path, outside: Path) -> None:
    def delete() -> None:
        files.write_file(workspace, "c/file", b"x")
        files.delete_file(workspace, "a/file")

    while_swapping(workspace, outside, delete)
    assert (outside / "file").read_text() == "secret"


def test_listing_never_follows_a_link_that_is_swapped_in(workspace: Path, outside: Path) -> None:
    (outside / "only-outside").touch()

    def listing() -> None:
        found = files.list_files(workspace, "", recursive=True, after="", limit=100)
        assert not [entry for entry in found if "only-outside" in entry.path]

    assert while_swapping(workspace, outside, listing) > 0


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return raw.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info


HOSTILE = {
    "climbs out": archive((member("../evil"), b"x")),
    "is absolute": archive((member("/tmp/evil"), b"x")),
    "writes through a link of its own": archive(
        (member("way", tarfile.SYMTYPE, "../outside"), b""), (member("way/file"), b"evil")
    ),
    "writes through a link to a link": archive(
        (member("one", tarfile.SYMTYPE, "two"), b""),
        (member("two", tarfile.SYMTYPE, "../outside"), b""),
        (member("one/file"), b"evil"),
    ),
    "hard-links a file of the host": archive((member("x", tarfile.LNKTYPE, "../outside/file"), b"")),
    "makes a device": archive((member("x", tarfile.BLKTYPE), b"")),
    "makes a fifo": archive((member("x", tarfile.FIFOTYPE), b"")),
    "replaces a folder by a file": archive((member("d", tarfile.DIRTYPE), b""), (member("d"), b"x")),
    "names nothing that is readable": b"not a tar file, by far" * 100,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_changes_nothing_inside_or_outside(
    name: str, workspace: Path, outside: Path, tmp_path: Path
) -> None:
    snapshots = Snapshots(tmp_path / "snapshots", 1 << 20)
    stored = tmp_path / "snapshots" / tenant_folder("acme") / f"{SNAPSHOT}.tar"
    stored.parent.mkdir(parents=True)
    stored.write_bytes(HOSTILE[name])
    with pytest.raises(Failure) as caught:
        snapshots.restore(SESSION, SNAPSHOT, workspace)
    assert caught.value.reason == errors_pb2.ERROR_REASON_PATH_REFUSED
    assert (workspace / "a" / "file").read_text() == "mine"
    assert (outside / "file").read_text() == "secret"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "snapshots", "workspace"]


def test_an_archive_larger_than_a_workspace_is_refused_whole(workspace: Path, tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path / "snapshots", 10_000)
    stored = tmp_path / "snapshots" / tenant_folder("acme") / f"{SNAPSHOT}.tar"
    stored.parent.mkdir(parents=True)
    stored.write_bytes(archive(*((member(f"{number}"), b"x" * 999) for number in range(20))))
    with pytest.raises(Failure) as caught:
        snapshots.restore(SESSION, SNAPSHOT, workspace)
    assert caught.value.reason == errors_pb2.ERROR_REASON_WORKSPACE_FULL
    assert (workspace / "a" / "file").read_text() == "mine"


def test_setuid_bits_do_not_survive_a_snapshot(workspace: Path, tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path / "snapshots", 1 << 20)
    stored = tmp_path / "snapshots" / tenant_folder("acme") / f"{SNAPSHOT}.tar"
    stored.parent.mkdir(parents=True)
    stored.write_bytes(archive((member("root", mode=0o6777), b"x")))
    snapshots.restore(SESSION, SNAPSHOT, workspace)
    assert (workspace / "root").stat().st_mode & 0o7777 == 0o755
