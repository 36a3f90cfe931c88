"""Sandboxes by bubblewrap: namespaces of its own for each, nothing to install but one small program.

A runner that is root gives each workspace a uid of its own and drops to it before bubblewrap starts, so that
what breaks out is still nobody. Because such a uid cannot walk through the folders that lead to a workspace,
the launcher first binds what the sandbox needs to a staging place, in a mount namespace that only it sees.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from runner.sandboxes.bubblewrap_arguments import bubblewrap_arguments
from runner.sandboxes.local_process import LocalProcess
from runner.sandboxes.protocol import SandboxProcess, SandboxSpec
from runner.sandboxes.root import write_etc
from runner.sandboxes.seccomp import bpf_program

# Uids that no distribution gives out. Two workspaces that draw the same one are still apart in all else.
_OWNERS: Final = range(100_000_000, 1_100_000_000)
# On every Linux, and every uid can walk to it.
_STAGE: Final = Path("/run/pointsman/stage")

# Arguments: file with bubblewrap's arguments, file with the seccomp filter, owner, pairs of source and target
# to bind, `--`, the command. All of it runs in a mount namespace of its own; root ends at setpriv.
_ROOT_LAUNCHER: Final = f"""
set -eu
arguments=$1 seccomp=$2 owner=$3; shift 3
exec 8< "$arguments" 9< "$seccomp"
mount -t tmpfs -o mode=0755,size=1m,nosuid,nodev tmpfs {_STAGE}
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then mkdir "{_STAGE}/$2"; else : > "{_STAGE}/$2"; fi
    mount --bind "$1" "{_STAGE}/$2"
    shift 2
done
shift
exec setpriv --reuid "$owner" --regid "$owner" --clear-groups --inh-caps=-all --no-new-privs \\
    bwrap --args 8 -- "$@"
"""
_LAUNCHER: Final = """
set -eu
exec 8< "$1" 9< "$2"; shift 2
exec setpriv --no-new-privs bwrap --args 8 -- "$@"
"""


class BubblewrapEngine:
    """Makes sandboxes with bubblewrap. `state` is a folder of its own; `cli` the Claude Code program."""

    name = "bubblewrap"

    def __init__(self, state: Path, cli: Path) -> None:
        self._etc = state / "etc"
        self._seccomp = state / "seccomp.bpf"
        self._cli = cli
        self._root = os.geteuid() == 0

    async def prepare(self) -> None:
        """See SandboxEngine."""
        missing = [program for program in ("bwrap", "setpriv") if shutil.which(program) is None]
        if missing:
            raise Failure(
                errors_pb2.ERROR_REASON_SANDBOX_UNSUPPORTED,
                f"This machine has no {' and no '.join(missing)}. Install bubblewrap and util-linux "
                "(apt-get install bubblewrap util-linux), or set SANDBOX=docker and start a Docker Engine.",
            )
        write_etc(self._etc)
        self._seccomp.write_bytes(bpf_program())
        if self._root:
            _STAGE.mkdir(parents=True, exist_ok=True)

    def new_owner(self) -> int:
        """See SandboxEngine."""
        return secrets.choice(_OWNERS) if self._root else os.geteuid()

    async def launch(
        self, spec: SandboxSpec, command: Sequence[str], environment: Mapping[str, str]
    ) -> SandboxProcess:
        """See SandboxEngine."""
        bound = {
            "workspace": spec.workspace,
            "agent": spec.agent_dir,
            "claude": self._cli,
            "etc": self._etc,
        }
        places = {name: str(_STAGE / name) if self._root else str(path) for name, path in bound.items()}
        arguments = spec.folder / "bwrap.args"
        options = bubblewrap_arguments(places, spec.limits, environment)
        arguments.write_bytes(b"".join(option.encode() + b"\0" for option in options))
        return await LocalProcess.start([*self._launcher(spec, arguments, bound), *command], spec.limits)

    def _launcher(self, spec: SandboxSpec, arguments: Path, bound: Mapping[str, Path]) -> list[str]:
        if not self._root:
            return ["sh", "-c", _LAUNCHER, "sandbox", str(arguments), str(self._seccomp)]
        owner = str(spec.workspace.stat().st_uid)
        pairs = [part for name, path in bound.items() for part in (str(path), name)]
        inside = [
            "sh",
            "-c",
            _ROOT_LAUNCHER,
            "sandbox",
            str(arguments),
            str(self._seccomp),
            owner,
            *pairs,
            "--",
        ]
        return ["unshare", "--mount", "--propagation", "private", *inside]
