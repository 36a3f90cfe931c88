"""What of an installation's sandboxes is on the machine, found by the folder that it has its state in."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from runner.sandboxes.cgroup_mounts import mounted
from runner.sandboxes.cgroups import Cgroups
from runner.sandboxes.docker import LABEL


def alive_on(data_dir: Path) -> list[str]:
    """Return what runs: processes, mounts, containers."""
    found = [f"mount {line}" for line in _lines(Path("/proc/self/mounts")) if str(data_dir) in line]
    found += [f"process {name}" for name in processes_on(data_dir)]
    return found + [f"container {name}" for name in _containers(_docker_label(data_dir))]


def processes_on(data_dir: Path) -> list[str]:
    """Return the ids of the processes that see something of it, which those in sandboxes do."""
    return _processes("mountinfo", str(data_dir))


def frozen_on(data_dir: Path) -> list[str]:
    """Return those of its processes that the kernel's freezer holds."""
    frozen = []
    mounts = [mount for _, mount in mounted(Path("/proc/self/mountinfo").read_text())]
    for pid in processes_on(data_dir):
        with suppress(OSError):
            groups = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
            own = next(line.removeprefix("0::/") for line in groups if line.startswith("0::"))
            files = [mount / own / "cgroup.events" for mount in mounts]
            if any("frozen 1" in file.read_text() for file in files if file.exists()):
                frozen.append(pid)
    return frozen


def watchers_of(data_dir: Path) -> list[str]:
    """Return the processes that would remove containers; each stays some seconds after the last of them."""
    return _processes("cmdline", _docker_label(data_dir))


def left_on_disk(data_dir: Path) -> list[str]:
    """Return what lies about: sandboxes' folders with their sockets, workspaces that nobody has."""
    runner = data_dir / "runner"
    found = [*(runner / "sandboxes").glob("*"), *(runner / "workspaces" / "unclaimed").glob("*")]
    return [str(path) for path in found]


def groups_of(data_dir: Path) -> list[str]:
    """Return the control groups of the installation."""
    name = Cgroups.folder_name(data_dir / "runner" / "bubblewrap")
    mount = Path("/sys/fs/cgroup")
    return [str(path) for path in (*mount.glob(f"*/{name}"), *mount.glob(name))]


def _processes(file: str, text: str) -> list[str]:
    """Return those with a text in one of their files below /proc."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and text.encode() in (entry / file).read_bytes():
                found.append(entry.name)
        except OSError:
            # It is gone.
            continue
    return found


def _docker_label(data_dir: Path) -> str:
    return hashlib.sha256(os.fsencode(data_dir / "runner" / "docker")).hexdigest()[:12]


def _containers(label: str) -> list[str]:
    if shutil.which("docker") is None:
        return []
    listed = subprocess.run(
        ["docker", "ps", "--all", "--quiet", "--filter", f"label={LABEL}={label}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return listed.stdout.split()


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()
