"""Nothing outside of a workspace is reached, however the agent moves things while we look."""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pointsman.errors.v1 import errors_pb2
from runner.names import SessionRef, tenant_folder
from runner.sandboxes.protocol import INSTANCE_TYPES, Limits
from runner.workspace import files
from runner.workspace.history import History
from runner.workspace.listing import list_files
from runner.workspace.place import Workspaces
from runner.workspace.remove import remove_folder
from runner.workspace.snapshots import Snapshots, _exchange
from runner.workspace.store import WorkspaceStore
from runner.workspace.told import ToldFiles
from servicekit.errors import Failure

SWAPS = 10_000
SESSION = SessionRef("acme", "6f1a3b1e-0000-4000-8000-000000000001")
SNAPSHOT = "6f1a3b1e-0000-4000-8000-000000000002"


def limits(workspace_bytes: int) -> Limits:
    return replace(INSTANCE_TYPES["basic"], workspace_bytes=workspace_bytes)


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


def while_swapping(workspace: Path, outside: Path, act: Callable[[], object], *, at_least: int = 0) -> None:
    """Swap `a` with a link to the outside, ten thousand times, and until `act` has been done so often."""
    (workspace / "b").symlink_to(outside)
    done = threading.Event()
    acted, until = 0, time.monotonic() + 60

    def swap() -> None:
        swaps = 0
        while swaps < SWAPS or (acted < at_least and time.monotonic() < until):
            # Twice, so that it ends as it was.
            for _ in range(2):
                _exchange(workspace / "a", workspace / "b")
            swaps += 2
        done.set()

    swapping = threading.Thread(target=swap)
    swapping.start()
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
    assert acted >= at_least


def test_reading_never_follows_a_link_that_is_swapped_in(workspace: Path, outside: Path) -> None:
    def read() -> None:
        descriptor, _ = files.open_file(workspace, "a/file")
        with os.fdopen(descriptor) as file:
            assert file.read() == "mine"

    while_swapping(workspace, outside, read, at_least=1)


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
        found = list_files(workspace, "", recursive=True, token="", limit=100)[0]
        assert not [entry for entry in found if "only-outside" in entry.path]

    while_swapping(workspace, outside, listing, at_least=1)


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
    snapshots = Snapshots(tmp_path / "snapshots", limits(1 << 20))
    stored = tmp_path / "snapshots" / tenant_folder("acme") / f"{SNAPSHOT}.tar"
    stored.parent.mkdir(parents=True)
    stored.write_bytes(HOSTILE[name])
    with pytest.raises(Failure) as caught:
        snapshots.restore(SESSION, SNAPSHOT, workspace, threading.Event())
    assert caught.value.reason == errors_pb2.ERROR_REASON_PATH_REFUSED
    assert (workspace / "a" / "file").read_text() == "mine"
    assert (outside / "file").read_text() == "secret"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "snapshots", "workspace"]


def test_an_archive_larger_than_a_workspace_is_refused_whole(workspace: Path, tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path / "snapshots", limits(10_000))
    stored = tmp_path / "snapshots" / tenant_folder("acme") / f"{SNAPSHOT}.tar"
    stored.parent.mkdir(parents=True)
    stored.write_bytes(archive(*((member(f"{number}"), b"x" * 999) for number in range(20))))
    with pytest.raises(Failure) as caught:
        snapshots.restore(SESSION, SNAPSHOT, workspace, threading.Event())
    assert caught.value.reason == errors_pb2.ERROR_REASON_WORKSPACE_FULL
    assert (workspace / "a" / "file").read_text() == "mine"


def test_setuid_bits_do_not_survive_a_snapshot(workspace: Path, tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path / "snapshots", limits(1 << 20))
    stored = tmp_path / "snapshots" / tenant_folder("acme") / f"{SNAPSHOT}.tar"
    stored.parent.mkdir(parents=True)
    stored.write_bytes(archive((member("root", mode=0o6777), b"x")))
    snapshots.restore(SESSION, SNAPSHOT, workspace, threading.Event())
    assert (workspace / "root").stat().st_mode & 0o7777 == 0o777


def test_a_tree_of_any_depth_is_removed_with_few_descriptors(workspace: Path, outside: Path) -> None:
    here = os.open(workspace, os.O_DIRECTORY)
    (workspace / "link").symlink_to(outside)
    for _ in range(2000):
        os.mkdir("deep", dir_fd=here)
        there = os.open("deep", os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = there
    os.close(here)
    files.delete_file(workspace, "deep")
    assert sorted(path.name for path in workspace.iterdir()) == ["a", "link"]
    remove_folder(workspace)
    assert not workspace.exists()
    assert (outside / "file").read_text() == "secret"


async def test_files_written_while_a_workspace_is_claimed_are_not_lost(tmp_path: Path) -> None:
    places = Workspaces(tmp_path / "workspaces", os.geteuid)
    store = WorkspaceStore(
        places,
        History(tmp_path / "history"),
        Snapshots(tmp_path / "snapshots", limits(1 << 30)),
        limits(1 << 30),
    )
    for number in range(20):
        session = SessionRef("acme", f"6f1a3b1e-0000-4000-8000-{number:012}")
        await store.write(session, "first", b"1")
        unclaimed = await places.make_unclaimed()
        writing = [asyncio.create_task(store.write(session, f"file{each}", b"1")) for each in range(5)]
        claiming = asyncio.create_task(places.claim(unclaimed, session, unless=lambda: False))
        await asyncio.gather(*writing, claiming)
        found = {path.name for path in places.path(session).iterdir()}
        assert found == {"first", *(f"file{each}" for each in range(5))}


def test_contents_kept_for_diffs_have_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.workspace.history._OBJECT_BYTES", 50_000)
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    history = History(tmp_path / "history")
    for turn in range(12):
        history.begin(SESSION, f"turn{turn}", workspace)
        (workspace / "file").write_text(f"{turn}" * 10_000)
        changes, _ = history.end(SESSION, workspace, ToldFiles())
        assert [change.path for change in changes] == ["file"]
    kept = sum(path.stat().st_size for path in (tmp_path / "history").rglob("objects/*"))
    assert kept <= 50_000
