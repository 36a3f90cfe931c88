"""Databases for tests: a file, and a PostgreSQL that the tests start themselves."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.required import lacking

# Debian keeps the server's programs out of the path.
_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL server on a Unix socket of its own."""

    socket_dir: Path
    data_dir: Path
    run_as: tuple[str, ...]
    binaries: Path

    def create_database(self, tablespace: str = "pg_default") -> str:
        """Make an empty database and return its URL."""
        name = f"t{uuid.uuid4().hex}"
        self.sql(f"CREATE DATABASE {name} TABLESPACE {tablespace}")
        return f"postgresql://postgres@/{name}?host={self.socket_dir}&port=5432"

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement and return what it printed."""
        command = ["psql", "-h", str(self.socket_dir), "-U", "postgres", "-d", database, "-Atqc", statement]
        return subprocess.run(
            [*self.run_as, str(self.binaries / command[0]), *command[1:]],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
            cwd="/",
        ).stdout

    def process_ids(self) -> list[int]:
        """Return the server's process and its backends."""
        parent = int((self.data_dir / "postmaster.pid").read_text().splitlines()[0])
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [parent, *map(int, children)]

    def ctl(self, *arguments: str) -> None:
        """Run pg_ctl on it."""
        command = [*self.run_as, str(self.binaries / "pg_ctl"), "-D", str(self.data_dir), "-w", *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=60, cwd="/")

    def start(self, fsync: bool = False) -> None:
        """Start it, and wait until it answers."""
        options = f"-k {self.socket_dir} -c listen_addresses= -c fsync={'on' if fsync else 'off'}"
        self.ctl("-o", f"{options} -c max_connections=60", "-l", str(self.data_dir / "log"), "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop it."""
        self.ctl("-m", mode, "stop")


@contextmanager
def postgres(fsync: bool = False) -> Iterator[Postgres]:
    """Start a server with an empty cluster, and remove all of it afterwards."""
    binaries = next((path for path in _BINARIES if (path / "initdb").exists()), None)
    if binaries is None:
        lacking("PostgreSQL is not installed: apt-get install postgresql")
    # A short path: a socket's name holds 107 bytes.
    root = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    run_as: tuple[str, ...] = ()
    if os.geteuid() == 0:
        # The server refuses to run as root.
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            lacking("there is no user postgres to run PostgreSQL as")
        os.chown(root, user.pw_uid, user.pw_gid)
        run_as = ("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
    server = Postgres(root, root / "data", run_as, binaries)
    try:
        server.ctl("-o", "-U postgres -A trust -E UTF8 --locale=C -N", "initdb")
        # Replicas that run as another user dial its socket.
        root.chmod(0o755)
        server.start(fsync)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(root, ignore_errors=True)
