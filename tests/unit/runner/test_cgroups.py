"""Control groups of both versions; the second on folders that look like the kernel's, and on its own.

A machine whose controllers are version 1's has version 2 without them: joining, freezing and killing are real
there, too, and limits are not.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from runner.sandboxes.cgroup import FREEZER, UNIFIED, Cgroup
from runner.sandboxes.cgroup_mounts import mounted, own_folder
from runner.sandboxes.cgroups import Cgroups
from runner.sandboxes.protocol import INSTANCE_TYPES, MIB, Limits
from servicekit.testing import wait_until


def unified(tmp_path: Path) -> tuple[Cgroups, Path]:
    mount = tmp_path / "cgroup"
    mount.mkdir()
    (mount / "cgroup.controllers").write_text("cpu memory pids")
    groups = Cgroups.detect(tmp_path / "state", mount)
    assert groups is not None
    (folder,) = mount.glob("pointsman-*")
    return groups, folder


def test_on_v2_limits_are_written_to_the_groups_own_files(tmp_path: Path) -> None:
    groups, folder = unified(tmp_path)
    assert (folder / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"
    group = groups.create("box", INSTANCE_TYPES["basic"])
    own = folder / "box"
    assert (own / "memory.max").read_text() == str(1 << 30)
    assert (own / "pids.max").read_text() == "256"
    assert (own / "cpu.max").read_text() == "200000 100000"
    group.limit_cpu(0.25)
    assert (own / "cpu.max").read_text() == "25000 100000"
    assert group.joins == [own / "cgroup.procs"]


def test_on_v2_a_group_is_frozen_as_one_and_tells_of_its_kills(tmp_path: Path) -> None:
    groups, folder = unified(tmp_path)
    group = groups.create("box", INSTANCE_TYPES["basic"])
    group.freeze(frozen=True)
    assert (folder / "box" / "cgroup.freeze").read_text() == "1"
    assert group.oom_kills() == 0
    (folder / "box" / "memory.events").write_text("low 0\nhigh 0\nmax 7\noom 1\noom_kill 2\n")
    (folder / "box" / "memory.current").write_text("5000\n")
    (folder / "box" / "memory.stat").write_text("anon 3000\ninactive_file 2000\n")
    (folder / "box" / "pids.events").write_text("max 9\n")
    assert (group.oom_kills(), group.memory_bytes(), group.refused_forks()) == (2, 3000, 9)


def test_where_groups_cannot_be_made_there_are_none(tmp_path: Path) -> None:
    assert Cgroups.detect(tmp_path, tmp_path / "nowhere", lambda name: None) is None


@pytest.fixture
def real_v2(tmp_path: Path) -> Iterator[Path]:
    """The kernel's own hierarchy of version 2, mounted for this test."""
    mount = tmp_path / "cgroup2"
    mount.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "cgroup2", "none", mount], check=False).returncode:
        pytest.skip("cgroup2 cannot be mounted here")
    try:
        yield mount
    finally:
        subprocess.run(["umount", mount], check=True)


def busy(group: Cgroup) -> subprocess.Popen[bytes]:
    """Start a shell in the group, as a launcher does, that goes on starting processes and waits for none."""
    script = 'echo $$ > "$1" || exit; while :; do sleep 100 & sleep 0.01; done'
    return subprocess.Popen(["sh", "-c", script, "sh", group.joins[0]])


@pytest.fixture(params=["cgroup2", "cgroup1"])
def real_group(request: pytest.FixtureRequest) -> Iterator[tuple[Cgroup, Path]]:
    """A group with the kernel's freezer of either version, and its folder."""
    name = f"pointsman-test-{uuid.uuid4().hex}"
    if request.param == "cgroup2":
        folder = request.getfixturevalue("real_v2") / name
        group = Cgroup({UNIFIED: folder}, unified=False)
    else:
        parent = Path("/sys/fs/cgroup/freezer")
        if os.geteuid() or not parent.is_dir():
            pytest.skip("this machine has no freezer of version 1")
        folder = parent / name
        group = Cgroup({FREEZER: folder}, unified=False)
    folder.mkdir()
    assert group.freezer == request.param
    yield group, folder
    assert not folder.exists()


async def test_a_group_is_frozen_as_one_and_killed_while_it_is_with_all_that_it_started(
    real_group: tuple[Cgroup, Path],
) -> None:
    group, folder = real_group
    process = busy(group)
    try:

        def members() -> list[str]:
            return (folder / "cgroup.procs").read_text().split()

        await wait_until(lambda: len(members()) > 5)
        await group.pause()
        assert group.is_frozen()
        frozen = members()
        for pid in frozen:
            os.kill(int(pid), signal.SIGCONT)
        assert group.is_frozen()
        assert members() == frozen
        group.freeze(frozen=False)
        await wait_until(lambda: len(members()) > len(frozen))
        await group.pause()
    finally:
        group.remove()
        process.wait(timeout=60)
    assert process.returncode == -9


async def test_what_an_earlier_runner_left_frozen_is_removed_at_the_start(
    real_v2: Path, tmp_path: Path
) -> None:
    folder = real_v2 / Cgroups.folder_name(tmp_path / "state")

    def make(name: str) -> Path:
        assert name == folder.name
        folder.mkdir(exist_ok=True)
        return folder

    def detected() -> Cgroups:
        groups = Cgroups.detect(tmp_path / "state", tmp_path / "no version 1", make)
        assert groups is not None
        return groups

    group = detected().create("box", INSTANCE_TYPES["basic"])
    process = busy(group)
    await wait_until(lambda: group.joins[0].read_text() != "")
    await group.pause()
    later = detected()
    assert later.reap() == 1
    assert process.wait(timeout=60) == -9
    later.close()
    assert not folder.exists()


def test_groups_of_version_2_are_looked_for_where_they_are_mounted_and_where_they_are_delegated() -> None:
    mountinfo = (
        "29 23 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n"
        "30 29 0:27 / /sys/fs/cgroup/uni\\040fied rw,relatime shared:4 - cgroup2 cgroup2 rw\n"
        "31 29 0:27 /docker/abc /mnt rw,relatime - cgroup2 none rw\n"
    )
    top, bound = mounted(mountinfo)
    assert top == ("/", Path("/sys/fs/cgroup/uni fied"))
    assert bound == ("/docker/abc", Path("/mnt"))
    groups = "9:freezer:/\n0::/docker/abc/own\n"
    assert own_folder(*top, groups) == Path("/sys/fs/cgroup/uni fied/docker/abc/own")
    assert own_folder(*bound, groups) == Path("/mnt/own")
    assert own_folder(*bound, "0::/docker/other\n") is None
    assert own_folder(*bound, "0::/../other\n") is None


async def test_on_the_kernels_v2_limits_hold(real_v2: Path, tmp_path: Path) -> None:
    if not {"memory", "pids", "cpu"} <= set((real_v2 / "cgroup.controllers").read_text().split()):
        pytest.skip("this machine's controllers are version 1's")
    groups = Cgroups.detect(tmp_path / "state", real_v2)
    assert groups is not None
    group = groups.create("box", Limits(1, 64 * MIB, pids=16))
    hog = "echo $$ > \"$1\"; exec python3 -c 'bytearray(256 << 20)'"
    try:
        eaten = await asyncio.create_subprocess_exec("sh", "-c", hog, "sh", group.joins[0])
        await asyncio.wait_for(eaten.wait(), timeout=60)
        assert group.oom_kills() == 1
        bomb = busy(group)
        await wait_until(lambda: group.refused_forks() > 0)
    finally:
        group.remove()
        groups.close()
    bomb.wait(timeout=60)
