"""Sandboxes by bubblewrap: namespaces of its own for each, nothing to install but one small program.

A runner that is root gives each workspace a uid of its own and drops to it before bubblewrap starts, so that
what breaks out is still nobody. Because such a uid cannot walk through the folders that lead to a workspace,
the launcher first binds what the sandbox needs to a staging place, in a mount namespace that only it sees.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import structlog
from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from runner.sandboxes import mounts
from runner.sandboxes.bubblewrap_arguments import bubblewrap_arguments
from runner.sandboxes.cgroup import Cgroup
from runner.sandboxes.cgroups import Cgroups, log_freezer
from runner.sandboxes.local_process import LocalProcess
from runner.sandboxes.memory import OOM_SCORE, sandboxes_memory
from runner.sandboxes.protocol import SandboxProcess, SandboxSpec
from runner.sandboxes.root import write_etc
from runner.sandboxes.seccomp import bpf_program

# Uids that no distribution gives out. Two workspaces that draw the same one are still apart in all else.
_OWNERS: Final = range(100_000_000, 1_100_000_000)
# On every Linux, and every uid can walk to it.
_STAGE: Final = Path("/run/pointsman/stage")

# The launcher joins the sandbox's control groups itself, so that nothing it starts is ever outside of them.
# `joins` has one file on each line.
_LIMITS: Final = rf"""
set -f; IFS='
'
for file in $joins; do echo $$ > "$file"; done
echo {OOM_SCORE} > /proc/self/oom_score_adj
unset IFS; set +f
umask 022
ulimit -c 0
ulimit -n "$files"
ulimit -f "$blocks"
"""
# Arguments: open files, blocks of 512 bytes that a file may have, control groups, files with bubblewrap's
# arguments and with the seccomp filter, owner, the folder that is copied to be /etc (on the host it is closed
# to the sandbox's user), pairs of source and target to bind, `--`, the command. All of it runs in a mount
# namespace of its own; root ends at setpriv. What attaches the shared folders stands before that.
_ROOT_LAUNCHER: Final = f"""
set -eu
files=$1 blocks=$2 joins=$3 arguments=$4 seccomp=$5 owner=$6; shift 6
{_LIMITS}
exec 8< "$arguments" 9< "$seccomp"
mount -t tmpfs -o mode=0755,size=4m,nosuid,nodev tmpfs {_STAGE}
cp -R --no-preserve=all "$1" "{_STAGE}/etc"
shift
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then mkdir "{_STAGE}/$2"; else : > "{_STAGE}/$2"; fi
    mount --bind "$1" "{_STAGE}/$2"
    shift 2
done
shift
exec %s setpriv --reuid "$owner" --regid "$owner" --clear-groups --inh-caps=-all --no-new-privs \\
    bwrap --args 8 -- "$@"
"""
_LAUNCHER: Final = f"""
set -eu
files=$1 blocks=$2 joins=$3 arguments=$4 seccomp=$5; shift 5
{_LIMITS}
exec 8< "$arguments" 9< "$seccomp"
exec setpriv --no-new-privs bwrap --args 8 -- "$@"
"""

_log = structlog.get_logger("runner.sandboxes")


class BubblewrapEngine:
    """Makes sandboxes with bubblewrap. `state` is a folder of its own; `cli` the Claude Code program."""

    name = "bubblewrap"
    memory_together: int | None = None

    def __init__(self, state: Path, cli: Path) -> None:
        self._etc = state / "etc"
        self._seccomp = state / "seccomp.bpf"
        self._cgroups: Cgroups | None = None
        self._state = state
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
        self._cgroups = Cgroups.detect(self._state)
        log_freezer(self._cgroups.freezer if self._cgroups else "signals")
        if self._cgroups and self._cgroups.limits_memory:
            self.memory_together = sandboxes_memory()
        else:
            _log.warning("no_memory_and_pids_limits", why="control groups cannot be made on this machine")
        if self._cgroups and (orphans := await asyncio.to_thread(self._cgroups.reap)):
            _log.warning("orphans_removed", sandboxes=orphans)
        if self._root:
            _STAGE.mkdir(parents=True, exist_ok=True)
            # Every sandbox's user has to pass, whatever the umask.
            for folder in (_STAGE, _STAGE.parent):
                folder.chmod(0o755)

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
        }
        places = {
            name: str(_STAGE / name) if self._root else str(path)
            for name, path in {**bound, "etc": self._etc}.items()
        }
        arguments = spec.folder / "bwrap.args"
        shared = {name: self._shared_place(name, number) for name, number in spec.shared.items()}
        options = bubblewrap_arguments(places, spec.limits, environment, shared)
        arguments.write_bytes(b"".join(option.encode() + b"\0" for option in options))
        with _inherited(spec.shared, detached=self._root) as inherited:
            group = self._group(spec)
            joins = "\n".join(str(path) for path in group.joins) if group else ""
            blocks = str(spec.limits.file_bytes // 512)
            files = [str(spec.limits.open_files), blocks, joins, str(arguments), str(self._seccomp)]
            launcher = self._launcher(spec, files, bound, inherited)
            return await LocalProcess.start(
                [*launcher, *command], group, spec.limits.cpus, inherited.values()
            )

    async def close(self) -> None:
        """See SandboxEngine."""
        if self._cgroups is not None:
            self._cgroups.close()

    def _launcher(
        self, spec: SandboxSpec, files: list[str], bound: Mapping[str, Path], shared: Mapping[str, int]
    ) -> list[str]:
        if not self._root:
            return ["sh", "-c", _LAUNCHER, "sandbox", *files]
        owner = str(spec.workspace.stat().st_uid)
        pairs = [part for name, path in bound.items() for part in (str(path), name)]
        attach = [f"{number}={self._shared_place(name, number)}" for name, number in shared.items()]
        attaching = shlex.join([sys.executable, "-IS", mounts.__file__, *attach, "--"]) if attach else ""
        inside = [
            "sh",
            "-c",
            _ROOT_LAUNCHER % attaching,
            "sandbox",
            *files,
            owner,
            str(self._etc),
            *pairs,
            "--",
        ]
        return ["unshare", "--mount", "--propagation", "private", *inside]

    def _shared_place(self, name: str, number: int) -> str | int:
        """Return where bubblewrap finds a shared folder. As nobody it takes the descriptor and compares."""
        return f"{_STAGE}/shared.{name}" if self._root else number

    def _group(self, spec: SandboxSpec) -> Cgroup | None:
        try:
            return self._cgroups.create(spec.sandbox_id, spec.limits) if self._cgroups else None
        except OSError as error:
            raise Failure(
                errors_pb2.ERROR_REASON_SANDBOX_START_FAILED,
                f"The sandbox's control group could not be made: {error.strerror} at {error.filename}.",
            ) from error


@contextmanager
def _inherited(shared: Mapping[str, int], *, detached: bool) -> Iterator[Mapping[str, int]]:
    """Return descriptors for the launcher: of mounts of these folders, or of the folders themselves."""
    if not detached:
        yield shared
        return
    with ExitStack() as stack:
        trees: dict[str, int] = {}
        for name, folder in shared.items():
            trees[name] = _detached(folder)
            stack.callback(os.close, trees[name])
        yield trees


def _detached(folder: int) -> int:
    try:
        return mounts.detached(folder)
    except OSError as error:
        raise Failure(
            errors_pb2.ERROR_REASON_SANDBOX_START_FAILED,
            f"A shared folder could not be mounted: {error.strerror}. It needs Linux 5.12.",
        ) from error
