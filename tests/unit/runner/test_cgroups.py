"""Control groups of both versions; the second on folders that look like the kernel's."""

from __future__ import annotations

from pathlib import Path

from runner.sandboxes.cgroups import Cgroups
from runner.sandboxes.protocol import INSTANCE_TYPES


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
