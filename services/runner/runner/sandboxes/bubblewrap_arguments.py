"""What bubblewrap is asked for: the whole of a sandbox's world, in its own words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from runner.sandboxes.protocol import AGENT_DIR, CLI, HOME, SHARED, WORKSPACE, Limits
from runner.sandboxes.root import BOUND

SECCOMP_FD: Final = 9
"""The descriptor that the launcher has opened the filter on."""
_USER: Final = "1000"
# Folders of the root that are links into /usr on a merged system and folders of their own elsewhere.
_LINKED: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


def bubblewrap_arguments(
    places: Mapping[str, str],
    limits: Limits,
    environment: Mapping[str, str],
    shared: Mapping[str, str | int],
) -> list[str]:
    """Return bubblewrap's options. `places` says where on the host workspace, agent, claude and etc are.

    `shared` has the folders below /shared by name: where they are, or a descriptor that bubblewrap inherits.
    """
    confinement = [
        "--unshare-all", "--unshare-user", "--disable-userns",
        "--uid", _USER, "--gid", _USER, "--hostname", "sandbox",
        "--cap-drop", "ALL", "--die-with-parent", "--new-session", "--clearenv",
        "--seccomp", str(SECCOMP_FD),
    ]  # fmt: skip
    root = ["--ro-bind", "/usr", "/usr", *_links()]
    root += ["--ro-bind", places["etc"], "/etc"]
    for folder in BOUND:
        if Path("/etc", folder).is_dir():
            root += ["--ro-bind", f"/etc/{folder}", f"/etc/{folder}"]
    root += ["--proc", "/proc", "--dev", "/dev"]
    for folder in ("/tmp", HOME, "/dev/shm"):  # noqa: S108 - the sandbox's own, not the host's
        root += ["--perms", "0700", "--size", str(limits.tmp_bytes), "--tmpfs", folder]
    own = ["--ro-bind", places["claude"], CLI]
    own += ["--ro-bind", places["agent"], AGENT_DIR]
    own += ["--bind", places["workspace"], WORKSPACE]
    for name, source in shared.items():
        option = "--ro-bind" if isinstance(source, str) else "--ro-bind-fd"
        own += [option, str(source), f"{SHARED}/{name}"]
    # Last, so that all mount points could be made in it. In /proc is what a process may ask of the kernel for
    # itself, such as to be spared by the OOM killer.
    closed = ["--remount-ro", "/proc", "--remount-ro", "/", "--chdir", WORKSPACE]
    variables = [part for name, value in environment.items() for part in ("--setenv", name, value)]
    return [*confinement, *root, *own, *closed, *variables]


def _links() -> list[str]:
    options: list[str] = []
    for name in _LINKED:
        path = Path("/", name)
        if path.is_symlink():
            options += ["--symlink", f"usr/{name}", f"/{name}"]
        elif path.is_dir():
            options += ["--ro-bind", f"/{name}", f"/{name}"]
    return options
