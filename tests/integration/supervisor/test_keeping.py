"""Processes are kept running, ended in order, and never left behind. The services are small scripts."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from servicekit.testing import free_port, wait_until
from supervisor.keeper import Keeper, Service
from supervisor.log_file import Console, LogFile
from supervisor.process import Process
from supervisor.refusal import Refusal

SLEEPER = "import time; print('up', flush=True); time.sleep(600)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}"
# Says a byte to whoever comes.
ANSWERING = (
    "import socket; server = socket.create_server(('127.0.0.1', {port}))\n"
    "while True:\n"
    "    peer, _ = server.accept(); peer.send(b'1'); peer.close()"
)
# Leaves a child in a session of its own, which no signal to the group reaches.
PARENT = (
    "import subprocess, sys, time; "
    "sleep = [sys.executable, '-c', 'import time; time.sleep(600)']; "
    "child = subprocess.Popen(sleep, start_new_session=True); "
    "print(child.pid, flush=True); time.sleep(600)"
)


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def log(tmp_path):
    return LogFile(tmp_path / "service.log")


def keeper(log, code, *, shown=None, healthy=None):
    """A keeper of a Python script."""

    async def printed_up():
        await wait_until(lambda: any("up" in line for line in log.last_lines), timeout=60)

    service = Service("script", [sys.executable, "-c", code], dict(os.environ), healthy or printed_up)
    shown = [] if shown is None else shown
    return Keeper(service, log, Console("script", log.path, show=shown.append), asyncio.Lock())


async def test_a_killed_service_comes_back_with_a_word_about_it(log):
    shown: list[str] = []
    kept = keeper(log, SLEEPER, shown=shown)
    keeping = asyncio.create_task(kept.keep())
    await kept.ready.wait()
    first = kept.pid
    os.kill(first, signal.SIGKILL)
    await wait_until(lambda: kept.pid != first and kept.ready.is_set(), timeout=60)
    assert "was ended by signal 9; starting it again" in shown[0]
    await kept.stop(grace=5)
    await asyncio.wait_for(keeping, 60)
    assert not alive(kept.pid)


async def test_a_service_that_hangs_is_ended_and_comes_back_with_a_word_about_it(log, monkeypatch):
    monkeypatch.setattr("supervisor.keeper._LOOK_SECONDS", 0.05)
    monkeypatch.setattr("supervisor.keeper._SILENT_SECONDS", 1.0)
    port = free_port()

    async def answers():
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                said = await reader.read(1)
                writer.close()
            except OSError:
                said = b""
            if said:
                return
            await asyncio.sleep(0.02)

    shown: list[str] = []
    kept = keeper(log, ANSWERING.format(port=port), shown=shown, healthy=answers)
    keeping = asyncio.create_task(kept.keep())
    await asyncio.wait_for(kept.ready.wait(), 60)
    first = kept.pid
    os.kill(first, signal.SIGSTOP)
    await wait_until(lambda: kept.pid != first and kept.ready.is_set(), timeout=60)
    assert not alive(first)
    assert "has not answered for 1 s and is ended" in shown[0]
    assert "was ended by signal 9; starting it again" in shown[1]
    assert "has not answered for 1 s and is ended" in "".join(log.last_lines)
    await kept.stop(grace=5)
    await asyncio.wait_for(keeping, 60)


async def test_one_that_never_gets_well_is_given_up_with_its_last_words(log, monkeypatch):
    monkeypatch.setattr("supervisor.backoff._FIRST_SECONDS", 0.001)
    kept = keeper(log, "raise SystemExit('no database at db:5432')")
    with pytest.raises(Refusal) as raised:
        await asyncio.wait_for(kept.keep(), 60)
    assert "ended with exit code 1" in str(raised.value)
    assert "no database at db:5432" in str(raised.value)
    assert str(log.path) in str(raised.value)


async def test_a_bad_configuration_is_not_tried_twice(log):
    kept = keeper(log, "import sys; print('DATABASE_URL: no such scheme'); sys.exit(2)")
    with pytest.raises(Refusal, match="DATABASE_URL"):
        await asyncio.wait_for(kept.keep(), 60)
    assert len(log.last_lines) == 1


async def test_one_that_ignores_the_request_to_end_is_killed(log):
    kept = keeper(log, DEAF)
    keeping = asyncio.create_task(kept.keep())
    await kept.ready.wait()
    await kept.stop(grace=0.2)
    assert not alive(kept.pid)
    await asyncio.wait_for(keeping, 60)


async def test_a_process_gets_exactly_its_environment(log):
    console = Console("script", log.path)
    code = "import os; print(sorted(os.environ))"
    process = await Process.start([sys.executable, "-c", code], {"LC_ALL": "C", "ONE": "1"}, log, console)
    assert await process.wait() == 0
    assert log.last_lines[-1] == "['LC_ALL', 'ONE']"


async def test_what_a_dead_service_left_is_ended(tmp_path):
    """A supervisor in a process of its own, as adoption is for the whole process."""
    script = tmp_path / "adopt.py"
    script.write_text(
        "import os, subprocess, sys\n"
        "from supervisor.orphans import adopt_orphans, end_all\n"
        "adopt_orphans()\n"
        f"process = subprocess.Popen([sys.executable, '-c', {PARENT!r}], stdout=-1, text=True)\n"
        "grandchild = process.stdout.readline().strip()\n"
        "process.kill(); process.wait()\n"
        "end_all()\n"
        "print(grandchild, os.path.exists(f'/proc/{grandchild}'))\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert output.decode().split()[1] == "False"
