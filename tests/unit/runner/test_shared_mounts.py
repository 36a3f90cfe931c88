"""What is mounted of another session's files is what was resolved, whatever lies at its path by then."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from runner.sandboxes import mounts
from runner.sandboxes.bubblewrap import _LAUNCHER
from runner.sandboxes.bubblewrap_arguments import bubblewrap_arguments
from runner.sandboxes.docker_shares import PlacedShares, clear
from runner.sandboxes.protocol import INSTANCE_TYPES
from runner.sandboxes.root import write_etc
from runner.sandboxes.seccomp import bpf_program
from runner.workspace.snapshots import _exchange
from support.required import program

NOBODY = 65534
SWAPS = 5_000

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts are made by root")


@pytest.fixture
def owner(tmp_path: Path) -> Path:
    """A workspace with `data`, and `other` that is a link to the outside."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.txt").write_text("secret")
    root = tmp_path / "owner"
    (root / "data").mkdir(parents=True)
    (root / "data" / "a.txt").write_text("first")
    (root / "other").symlink_to(tmp_path / "outside")
    return root


@pytest.fixture
def swapping(owner: Path) -> Iterator[threading.Event]:
    """Swap folder and link for as long as the test goes on, thousands of times in any case."""
    stop, enough = threading.Event(), threading.Event()

    def swap() -> None:
        swaps = 0
        while not (stop.is_set() and enough.is_set()):
            _exchange(owner / "data", owner / "other")
            swaps += 1
            if swaps >= SWAPS:
                enough.set()

    thread = threading.Thread(target=swap)
    thread.start()
    yield enough
    stop.set()
    thread.join()


def test_a_folder_that_is_held_is_mounted_and_never_what_its_path_leads_to(
    owner: Path, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    held = os.open(owner / "data", os.O_PATH | os.O_DIRECTORY)
    _exchange(owner / "data", owner / "other")
    tree = mounts.detached(held)
    mounts.attach(tree, place)
    try:
        assert (place / "a.txt").read_text() == "first"
        with pytest.raises(OSError, match="Read-only") as caught:
            (place / "a.txt").write_text("mine")
        assert caught.value.errno == errno.EROFS
        (owner / "other" / "b.txt").write_text("later")
        assert (place / "b.txt").read_text() == "later"
    finally:
        mounts.take_off(place)
        os.close(tree)
        os.close(held)
    assert list(place.iterdir()) == []


def test_what_a_killed_runner_left_mounted_is_taken_off_and_nothing_behind_it_is_touched(
    owner: Path, tmp_path: Path, swapping: threading.Event
) -> None:
    folder = tmp_path / "shares" / "box"
    for _ in range(50):
        try:
            held = os.open(owner / "data", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        except NotADirectoryError:
            continue
        shares = PlacedShares(folder, {"one": held, "two": held})
        shares.put()
        os.close(held)
        assert [(place / "a.txt").read_text() for place in shares.places.values()] == ["first", "first"]
        clear(folder)
        shares.take_off()
        assert not folder.exists()
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
    assert swapping.wait(60)
    assert sorted(path.name for path in owner.rglob("a.txt")) == ["a.txt"]


@pytest.fixture
def readable(owner: Path) -> Iterator[Path]:
    """A folder that everybody can walk to."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    os.chown(owner, NOBODY, NOBODY)
    owner.rename(folder / "owner")
    (folder / "outside").mkdir()
    (folder / "outside" / "a.txt").write_text("secret")
    (folder / "owner" / "other").unlink()
    (folder / "owner" / "other").symlink_to(folder / "outside")
    yield folder
    shutil.rmtree(folder)


def test_a_runner_that_is_nobody_has_bubblewrap_compare_what_it_mounted(readable: Path) -> None:
    program("bwrap", install="apt-get install bubblewrap")
    owner = readable / "owner"
    for name in ("workspace", "agent"):
        (readable / name).mkdir()
        os.chown(readable / name, NOBODY, NOBODY)
    write_etc(readable / "etc")
    (readable / "seccomp").write_bytes(bpf_program())
    places = {name: str(readable / name) for name in ("workspace", "agent", "etc")}
    places["claude"] = "/bin/true"

    def launched(held: int) -> subprocess.CompletedProcess[str]:
        options = bubblewrap_arguments(places, INSTANCE_TYPES["lite"], {}, {"data": held})
        (readable / "arguments").write_bytes(b"".join(option.encode() + b"\0" for option in options))
        files = ["4096", "unlimited", "", str(readable / "arguments"), str(readable / "seccomp")]
        line = "cat /shared/data/a.txt; echo x > /shared/data/a.txt; ls /proc/self/fd | wc -w"
        return subprocess.run(
            ["sh", "-c", _LAUNCHER, "sandbox", *files, "sh", "-c", line],
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            pass_fds=[held],
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    held = os.open(owner / "data", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            _exchange(owner / "data", owner / "other")

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        raced = [launched(held) for _ in range(12)]
    finally:
        stop.set()
        swapping.join()
    calm = launched(held)
    os.close(held)
    for done in (*raced, calm):
        assert "secret" not in done.stdout
        assert done.stdout == "" or "Read-only" in done.stderr, done.stderr
    # Standard streams and the folder that is listed: the descriptor is not inherited by what runs inside.
    assert {done.stdout for done in raced} <= {"", "first4\n"}
    assert calm.stdout == "first4\n"
