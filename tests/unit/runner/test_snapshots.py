"""Snapshots keep what a workspace holds and nothing else: bounded, sparse, gone when nobody wants them."""

from __future__ import annotations

import os
import tarfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from pointsman.errors.v1 import errors_pb2
from runner.names import SessionRef
from runner.sandboxes.protocol import INSTANCE_TYPES, MIB, Limits
from runner.workspace.pack import StoppedError
from runner.workspace.snapshots import Snapshots
from servicekit.errors import Failure

FULL = os.environ.get("CHAOS_FULL") == "1"
FILES = 40_000 if FULL else 4_000
SESSION = SessionRef("acme", "6f1a3b1e-0000-4000-8000-000000000001")
ONE, TWO = "6f1a3b1e-0000-4000-8000-000000000002", "6f1a3b1e-0000-4000-8000-000000000003"


def limits(**fields: int) -> Limits:
    return replace(INSTANCE_TYPES["basic"], **fields)


class Kept:
    """A workspace with its snapshots."""

    def __init__(self, folder: Path, **fields: int) -> None:
        self.workspace = folder / "workspace"
        self.workspace.mkdir()
        self.root = folder / "snapshots"
        self.snapshots = Snapshots(self.root, limits(**fields))

    def create(self, snapshot_id: str = ONE, max_bytes: int = 0, *, owned: bool = True) -> int:
        return self.snapshots.create(
            SESSION, snapshot_id, self.workspace, stop=threading.Event(), owned=owned, max_bytes=max_bytes
        )[0]

    def restore(self, snapshot_id: str = ONE) -> None:
        self.snapshots.restore(SESSION, snapshot_id, self.workspace, threading.Event())

    def files(self) -> list[Path]:
        return [path for path in self.root.rglob("*") if path.is_file()]

    def disk(self) -> int:
        return sum(path.stat().st_blocks * 512 for path in self.files())


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def test_a_sparse_file_stays_sparse_and_counts_in_full(kept: Kept) -> None:
    with (kept.workspace / "sparse").open("wb") as file:
        file.truncate(1900 * MIB)
        for place in (0, 700 * MIB, 1899 * MIB):
            file.seek(place)
            file.write(b"data" * 1024)
    (kept.workspace / "after").write_bytes(b"x" * 513)
    (kept.workspace / "hole").touch()
    os.truncate(kept.workspace / "hole", 10 * MIB + 1)
    before = (kept.workspace / "sparse").stat()
    size = kept.create()
    assert size == 1910 * MIB + 1 + 513
    assert kept.disk() < 1 * MIB
    (kept.workspace / "sparse").unlink()
    kept.restore()
    after = (kept.workspace / "sparse").stat()
    assert (after.st_size, after.st_blocks) == (before.st_size, before.st_blocks)
    with (kept.workspace / "sparse").open("rb") as file:
        file.seek(700 * MIB)
        assert file.read(4097) == b"data" * 1024 + b"\0"
    assert (kept.workspace / "after").read_bytes() == b"x" * 513
    assert (kept.workspace / "hole").read_bytes() == bytes(10 * MIB + 1)
    # Others read it as well.
    with tarfile.open(next(kept.root.glob("*/*.tar"))) as archive:
        assert sorted(archive.getnames()) == ["after", "hole", "sparse"]


def test_names_of_any_bytes_and_any_length_come_back(kept: Kept) -> None:
    odd = [b"\xff\xfe", b"new\nline", b"x" * 255, "ü".encode()]
    deep = kept.workspace
    for _ in range(15):
        deep /= "d" * 200
    deep.mkdir(parents=True)
    for number, name in enumerate(odd):
        (deep / os.fsdecode(name)).write_bytes(b"%d" % number)
        (kept.workspace / os.fsdecode(name)).symlink_to(os.fsdecode(name) * 3)
    (deep / "script").touch(mode=0o755)
    kept.create()
    kept.restore()
    for number, name in enumerate(odd):
        assert (deep / os.fsdecode(name)).read_bytes() == b"%d" % number
        assert os.readlink(kept.workspace / os.fsdecode(name)) == os.fsdecode(name) * 3  # noqa: PTH115
    assert (deep / "script").stat().st_mode & 0o777 == 0o755


def test_a_tree_deeper_than_any_path_is_refused_not_cut(kept: Kept) -> None:
    here = os.open(kept.workspace, os.O_DIRECTORY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=here)
        there = os.open("d" * 200, os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = there
    os.close(here)
    with pytest.raises(Failure) as caught:
        kept.create()
    assert caught.value.reason == errors_pb2.ERROR_REASON_PATH_REFUSED
    assert kept.files() == []


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("data", errors_pb2.ERROR_REASON_WORKSPACE_FULL),
        ("hard links", errors_pb2.ERROR_REASON_WORKSPACE_FULL),
        ("entries", errors_pb2.ERROR_REASON_WORKSPACE_FULL),
        ("length", errors_pb2.ERROR_REASON_SNAPSHOT_LIMIT),
    ],
)
def test_what_is_over_a_limit_is_not_kept(kind: str, reason: int, tmp_path: Path) -> None:
    kept = Kept(tmp_path, workspace_bytes=2 * MIB, workspace_entries=50)
    if kind == "data":
        (kept.workspace / "large").write_bytes(bytes(2 * MIB + 1))
    elif kind == "hard links":
        (kept.workspace / "one").write_bytes(os.urandom(600_000))
        for number in range(4):
            (kept.workspace / f"again{number}").hardlink_to(kept.workspace / "one")
    elif kind == "entries":
        for number in range(51):
            (kept.workspace / f"folder{number}").mkdir()
    else:
        (kept.workspace / "hole").touch()
        os.truncate(kept.workspace / "hole", 100 * MIB)
    with pytest.raises(Failure) as caught:
        kept.create(max_bytes=99 * MIB)
    assert caught.value.reason == reason
    assert "limit" in caught.value.metadata
    assert kept.files() == []


def test_a_snapshot_with_more_entries_than_a_workspace_may_have_is_not_restored(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    for number in range(60):
        (kept.workspace / f"file{number}").touch()
    kept.create()
    smaller = Snapshots(kept.root, limits(workspace_entries=50))
    with pytest.raises(Failure) as caught:
        smaller.restore(SESSION, ONE, kept.workspace, threading.Event())
    assert caught.value.reason == errors_pb2.ERROR_REASON_WORKSPACE_FULL
    assert len(list(kept.workspace.iterdir())) == 60


def test_one_that_is_stopped_leaves_nothing_and_ends_at_once(kept: Kept) -> None:
    for number in range(20):
        (kept.workspace / f"large{number}").write_bytes(os.urandom(5 * MIB))
    stop = threading.Event()

    def stop_when_begun() -> None:
        # The file has no name yet, but is open.
        while not any("snapshots" in os.readlink(path) for path in descriptors()):  # noqa: PTH115
            time.sleep(0.001)
        stop.set()

    watcher = threading.Thread(target=stop_when_begun)
    watcher.start()
    with pytest.raises(StoppedError):
        kept.snapshots.create(SESSION, ONE, kept.workspace, stop=stop, owned=True)
    watcher.join()
    assert kept.files() == []
    stop = threading.Event()
    stop.set()
    kept.create()
    with pytest.raises(StoppedError):
        kept.snapshots.restore(SESSION, ONE, kept.workspace, stop)
    assert sorted(path.name for path in kept.workspace.parent.iterdir()) == ["snapshots", "workspace"]


def descriptors() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        path = f"/proc/self/fd/{name}"
        if os.path.lexists(path):
            found.append(path)
    return found


def test_what_a_session_owns_goes_with_it_and_the_rest_stays(kept: Kept) -> None:
    (kept.workspace / "a").write_text("1")
    kept.create(ONE)
    kept.create("6f1a3b1e-0000-4000-8000-000000000009", owned=False)
    kept.snapshots.keep_again(SESSION, TWO, ONE)
    kept.snapshots.delete_owned(SESSION)
    kept.snapshots.delete_owned(SESSION)
    assert sorted(path.name[-5:] for path in kept.files()) == ["3.tar", "9.tar"]
    kept.restore(TWO)
    assert (kept.workspace / "a").read_text() == "1"


def test_what_a_killed_runner_left_is_removed_when_it_is_old(kept: Kept) -> None:
    kept.create()
    tenant = next(kept.root.iterdir())
    old, new = tenant / ".one.tar.abc", tenant / ".two.tar.def"
    for path in (old, new):
        path.write_text("half")
    os.utime(old, (1, 1))
    kept.snapshots.clear_left_over()
    assert not old.exists()
    assert new.exists()
    assert list(tenant.glob("*.tar"))


def test_a_large_workspace_is_kept_and_restored_in_seconds(kept: Kept) -> None:
    for number in range(FILES // 100):
        folder = kept.workspace / "src" / f"p{number}"
        folder.mkdir(parents=True)
        for each in range(100):
            (folder / f"f{each}.txt").write_text(f"{number} {each}\n")
    began = time.thread_time()
    kept.create()
    packed = time.thread_time() - began
    kept.restore()
    restored = time.thread_time() - began - packed
    print(f"{FILES} files: kept in {packed:.2f} s, restored in {restored:.2f} s of CPU")
    # A quarter of a millisecond for each file, on a slow machine.
    assert packed < FILES * 0.00025
    assert restored < FILES * 0.0005
    assert sum(1 for path in kept.workspace.rglob("*.txt")) == FILES


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to root")
def test_a_file_that_its_owner_made_unreadable_is_kept(kept: Kept) -> None:
    (kept.workspace / "secret").write_text("mine")
    (kept.workspace / "secret").chmod(0)
    kept.create()
    assert (kept.workspace / "secret").stat().st_mode & 0o777 == 0
