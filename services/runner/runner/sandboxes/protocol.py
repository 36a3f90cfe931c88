"""The edge between the runner and whatever confines an agent.

An engine launches one command per sandbox and hands back its process. What is promised of every engine: no
network interface but loopback, no host file but those named in the spec, a uid that is not 0, no capability,
no privilege to gain, a root that cannot be written, and that nothing of the sandbox outlives its process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

WORKSPACE: Final = "/workspace"
"""Where every sandbox has its workspace."""
KEPT: Final = ".agent"
"""The folder of the workspace in which the CLI keeps files for the agent, such as long outputs."""
SHARED: Final = "/shared"
"""Folders of other sessions are below it, read-only."""
HOME: Final = "/home/agent"
"""The agent's home: a tmpfs that is gone with the sandbox."""
AGENT_DIR: Final = "/run/agent"
"""Read-only inside: the relay's socket, and the seed that is copied into the home before the start."""
SOCKET_NAME: Final = "llm.sock"
SEED_NAME: Final = "seed"
CLI: Final = "/opt/agent/claude"
"""Where every sandbox has Claude Code."""

MIB: Final = 1024 * 1024
GIB: Final = 1024 * MIB


@dataclass(frozen=True)
class Limits:
    """What one sandbox may use."""

    cpus: float
    memory_bytes: int
    pids: int = 256
    """Processes and threads. Claude Code itself has about 30."""
    tmp_bytes: int = 256 * MIB
    """Of each tmpfs: /tmp, the home, /dev/shm. They count as memory, too."""
    workspace_bytes: int = 2 * GIB
    workspace_entries: int = 200_000
    """Files, folders and links."""
    open_files: int = 4096

    @property
    def file_bytes(self) -> int:
        """Of one file: a little more than the workspace may have, so that whoever writes one is over that."""
        return self.workspace_bytes + MIB


BOOT_CPUS: Final = 2.0
"""Cores that a sandbox may use until it has booted, in which only Claude Code itself has run."""
INSTANCE_TYPES: Final[Mapping[str, Limits]] = {
    "lite": Limits(1 / 16, 256 * MIB, tmp_bytes=64 * MIB),
    "basic": Limits(1 / 4, 1 * GIB),
    "standard-1": Limits(1 / 2, 4 * GIB),
    "standard-2": Limits(1, 6 * GIB),
    "standard-3": Limits(2, 8 * GIB),
    "standard-4": Limits(4, 12 * GIB),
}


@dataclass(frozen=True)
class SandboxSpec:
    """What a sandbox is made of."""

    sandbox_id: str
    """Unique on this machine, `[a-z0-9-]`; the label that orphans are found by."""
    workspace: Path
    """Folder on the host that is /workspace inside, writable. Its owner is the sandbox's user on the host."""
    folder: Path
    """Folder on the host for this sandbox alone, removed by its maker after the end. What is in `agent/`
    below it is /run/agent inside, read-only; the rest is never shown."""
    limits: Limits
    shared: Mapping[str, int] = field(default_factory=dict)
    """Folders that are `/shared/{name}` inside, read-only, by name: descriptors (O_PATH), open until `launch`
    has returned. What is shown is that very folder, whatever lies at its path meanwhile."""

    @property
    def agent_dir(self) -> Path:
        """What is /run/agent inside."""
        return self.folder / "agent"


class ByteSource(Protocol):
    """Bytes that come out of a sandbox; they wait there until they are read."""

    async def read(self, n: int = -1) -> bytes:
        """Return up to `n` bytes as soon as there are some, none at the end."""
        ...


class ByteSink(Protocol):
    """Bytes that go into a sandbox."""

    def write(self, data: bytes) -> None:
        """Take bytes; `drain` says when there is room for more."""
        ...

    async def drain(self) -> None:
        """Wait until what was written is on its way."""
        ...

    def write_eof(self) -> None:
        """Say that no more comes."""
        ...


class SandboxProcess(Protocol):
    """A running sandbox. Its three streams are those of the command."""

    @property
    def stdin(self) -> ByteSink:
        """What the command reads."""
        ...

    @property
    def stdout(self) -> ByteSource:
        """What it says. Its end is known by reading it to the end."""
        ...

    @property
    def stderr(self) -> ByteSource:
        """What it complains about; the newest of it, when nobody reads."""
        ...

    async def wait(self) -> int:
        """Return the command's exit code, or minus the signal that ended it. May be called many times."""
        ...

    async def kill(self) -> None:
        """End everything in the sandbox and remove it. Returns when nothing is left. Idempotent.

        Cancelling the call does not stop the killing.
        """
        ...

    async def settle(self) -> None:
        """It has booted: from now on it has no more of the CPU than its limits say."""
        ...

    async def pause(self) -> None:
        """Freeze everything in it: no CPU, memory kept. Idempotent.

        Nothing in it can undo that. OSError when it is not frozen: then it has to be ended.
        """
        ...

    async def resume(self) -> None:
        """Let it go on. Idempotent. OSError when it stays frozen: then it has to be ended."""
        ...

    def processes(self) -> Sequence[int]:
        """Return the ids on the host of what runs in it; none when the engine is on another machine."""
        ...

    def memory_bytes(self) -> int:
        """Return the memory it uses; 0 when unknown."""
        ...

    def refused_forks(self) -> int:
        """Return how often a process could not be started because there were too many; 0 when unknown."""
        ...

    def out_of_memory(self) -> bool:
        """Return whether its memory limit has had something killed in it. Still answers after the end."""
        ...


class SandboxEngine(Protocol):
    """Makes sandboxes of one kind on this machine."""

    name: str
    """`bubblewrap` or `docker`."""
    memory_together: int | None
    """Bytes that all its sandboxes may have together, None when each has its own limit only. Known when it is
    prepared."""

    async def prepare(self) -> None:
        """Get ready once, before the first launch; remove what an earlier runner left behind.

        Raises Failure SANDBOX_UNSUPPORTED when this machine cannot make a sandbox, saying what to do.
        """
        ...

    async def launch(
        self, spec: SandboxSpec, command: Sequence[str], environment: Mapping[str, str]
    ) -> SandboxProcess:
        """Start a command in a new sandbox, in /workspace, with exactly this environment.

        Raises Failure SANDBOX_START_FAILED. When the call is cancelled nothing is left behind.
        """
        ...

    async def close(self) -> None:
        """Give back what `prepare` took. No sandbox may be left."""
        ...

    def new_owner(self) -> int:
        """Return the uid on the host for the folder of a new workspace."""
        ...
