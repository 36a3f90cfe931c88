"""The whole of Pointsman as `make run` starts it, for tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from servicekit.testing import free_port

ROOT = Path(__file__).resolve().parents[2]
# Five programs start beside each other, one of them a slow importer, on a machine that may be busy.
READY_SECONDS = 120
# What Python is to run.
SUPERVISOR = ("-m", "supervisor")
STOP_SECONDS = 90
# By its path: tests leave PATH empty.
_SETPRIV = shutil.which("setpriv") or "setpriv"
# What a process must have to run at all; nothing of a developer's own keys reaches the suite.
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE")


@dataclass
class Suite:
    """A running installation."""

    port: int
    data_dir: Path
    process: subprocess.Popen[str]
    """The supervisor."""
    key: str = ""
    lines: list[str] = field(default_factory=list)
    """What the supervisor printed so far."""
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self) -> str:
        """Where the edge listens."""
        return f"http://localhost:{self.port}"

    def wait_for_line(self, start: str, timeout: float = READY_SECONDS) -> str:
        """Return the first line that starts so; AssertionError with what was printed when none comes."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for line in self.lines:
                    if line.startswith(start):
                        return line
                left = deadline - time.monotonic()
                if left <= 0 or (self.process.poll() is not None and self.lines and self.lines[-1] == "\0"):
                    raise AssertionError(f"no line {start!r} in:\n" + "\n".join(self.lines))
                self._changed.wait(min(left, 1.0))

    def read(self) -> None:
        """Collect what the supervisor prints until it ends."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self.lines.append("\0")
            self._changed.notify_all()

    def pid(self, service: str) -> int:
        """Return the id of the process of `router`, `session`, `runner`, `llm-proxy` or `edge`."""
        for pid in children(self.process.pid):
            command = _command_line(pid)
            if service == "edge" and command and command[0].endswith("/envoy"):
                return pid
            if command[-2:] == ["-m", service.replace("-", "_")]:
                return pid
        raise LookupError(f"no process of {service}")

    def stop(self, number: int = signal.SIGINT) -> int:
        """Ask the supervisor to stop, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS)


def children(pid: int) -> list[int]:
    """Return the ids of a process's children."""
    found: list[int] = []
    # A process or thread may be over by now.
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - names
            with suppress(OSError):
                found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return found


def descendants(pid: int) -> set[int]:
    """Return the ids of all processes below one."""
    below = set(children(pid))
    for child in list(below):
        try:
            below |= descendants(child)
        except OSError:
            continue
    return below


def _command_line(pid: int) -> list[str]:
    try:
        return [part.decode() for part in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]]
    except OSError:
        return []


@contextmanager
def data_directory() -> Iterator[Path]:
    """Make a directory that other users of the machine can reach, as pytest's are not."""
    path = Path(tempfile.mkdtemp(prefix="pointsman-"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


# Arguments: user, the folder that others cannot pass ('' for none), the command.
_AS_USER = """
set -eu
user=$1 closed=$2; shift 2
if [ -n "$closed" ]; then
    stash=$(mktemp -d); number=0
    mount -t tmpfs tmpfs "$stash"
    for folder in "$PYTHON" "$REPOSITORY"; do
        case $folder in "$closed"/*) mkdir "$stash/$number"; mount --rbind "$folder" "$stash/$number" ;; esac
        number=$((number + 1))
    done
    mount -t tmpfs -o mode=0755 tmpfs "$closed"
    number=0
    for folder in "$PYTHON" "$REPOSITORY"; do
        case $folder in "$closed"/*) mkdir -p "$folder"; mount --rbind "$stash/$number" "$folder" ;; esac
        number=$((number + 1))
    done
fi
exec setpriv --pdeathsig KILL --reuid="$user" --regid="$user" --clear-groups -- "$@"
"""


def as_user(user: int) -> list[str]:
    """Return what starts a program as a normal user, who sees Python and this repository wherever they lie.

    On machines where Python is root's own, it does so in a mount namespace of its own.
    """
    python = Path(sys.base_prefix).resolve()
    above = {folder for folder in (*python.parents, *ROOT.parents) if not folder.stat().st_mode & 0o001}
    closed = min(map(str, above), key=len, default="")
    needed = [f"PYTHON={python}", f"REPOSITORY={ROOT}"]
    script = ["sh", "-c", _AS_USER, "as-user", str(user), closed]
    return ["unshare", "--mount", "--propagation", "private", "env", *needed, *script]


def start(
    data_dir: Path,
    environ: Mapping[str, str],
    port: int | None = None,
    program: Sequence[str] = SUPERVISOR,
    *,
    user: int | None = None,
    umask: int = -1,
) -> Suite:
    """Start the supervisor with this environment and nothing else; do not wait for it.

    `user`: whose it is, None for the user of the tests.
    """
    chosen = port or free_port()
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    process = subprocess.Popen(
        # A test run that is killed takes its suite with it.
        [
            shutil.which("setpriv") or "setpriv",
            "--pdeathsig",
            "KILL",
            "--",
            *(as_user(user) if user is not None else ()),
            sys.executable,
            *program,
        ],
        # A directory without a `.env`: a developer's own must not change what is tested.
        cwd=data_dir,
        env={**kept, "PORT": str(chosen), "POINTSMAN_DATA_DIR": str(data_dir / "data"), **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        umask=umask,
    )
    suite = Suite(port=chosen, data_dir=data_dir / "data", process=process)
    threading.Thread(target=suite.read, daemon=True).start()
    return suite


@contextmanager
def running(
    environ: Mapping[str, str] | None = None,
    program: Sequence[str] = SUPERVISOR,
    *,
    user: int | None = None,
    umask: int = -1,
) -> Iterator[Suite]:
    """Run the whole suite in a directory of its own, ready for calls; stop it and remove everything after."""
    with data_directory() as directory:
        if user is not None:
            os.chown(directory, user, user)
            environ = {"HOME": str(directory), **(environ or {})}
        suite = start(directory, environ or {}, program=program, user=user, umask=umask)
        try:
            suite.wait_for_line("Ready on ")
            suite.key = suite.wait_for_line("API key").split()[2]
            yield suite
        finally:
            try:
                suite.stop()
            except subprocess.TimeoutExpired:
                suite.process.kill()
                raise
