"""Control groups of both versions; the second on folders that look like the kernel's, and on its own.

A machine whose controllers are version 1's has version 2 without them: joining, freezing and killing are real
there, too, and limits are not.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from runner.sandboxes.cgroups import Cgroup, Cgroups
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
    assert Cgroups.detect(tmp_path, tmp_path / "nowhere") is None


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
    script = 'echo $$ > "$1"; while :; do sleep 100 & sleep 0.01; done'
    return subprocess.Popen(["sh", "-c", script, "sh", group.joins[0]])


async def test_on_the_kernels_v2_a_group_is_frozen_as_one_and_killed_with_all_that_it_started(
    real_v2: Path,
) -> None:
    folder = real_v2 / f"pointsman-test-{uuid.uuid4().hex}"
    folder.mkdir()
    group = Cgroup({"": folder}, unified=True)
    process = busy(group)
    try:

        def members() -> list[str]:
            return (folder / "cgroup.procs").read_text().split()

        await wait_until(lambda: len(members()) > 5)
        group.freeze(frozen=True)
        await wait_until(lambda: "frozen 1" in (folder / "cgroup.events").read_text())
        frozen = members()
        group.freeze(frozen=False)
        await wait_until(lambda: len(members()) > len(frozen))
        group.freeze(frozen=True)
    finally:
        group.remove()
        process.wait(timeout=60)
    assert not folder.exists()
    assert process.returncode == -9


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
