"""The whole installation under `python -m supervisor`."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from servicekit.testing import free_port
from supervisor.suite import _GRACE_SECONDS
from support.suite import ROOT, STOP_SECONDS, children, data_directory, descendants, running, start

pytestmark = pytest.mark.heavy
SERVICES = ["router", "session", "runner", "llm-proxy", "edge"]


def ended(suite, timeout=120):
    """The exit code and all that was printed."""
    code = suite.process.wait(timeout)
    suite.wait_for_line("\0", timeout=60)
    return code, "\n".join(suite.lines[:-1])


def is_healthy(suite):
    """Whether every service is, as a client sees it."""
    try:
        answer = httpx.get(f"{suite.url}/healthz", timeout=60, trust_env=False)
    except httpx.TransportError:
        return False
    return answer.status_code == 200 and answer.json()["status"] == "healthy"


def wait_until(condition, timeout=60):
    """Poll, as processes of another program cannot be awaited."""
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, "it did not come to be"
        time.sleep(0.05)


def ask(suite, question):
    """The answer to a question, in a turn of its own."""
    answer = httpx.post(
        f"{suite.url}/query",
        json={"query": question},
        headers={"authorization": f"Bearer {suite.key}"},
        timeout=60,
        trust_env=False,
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["response"]


def is_gone(pid):
    """Whether no such process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_it_gets_ready_without_any_credential_and_says_what_to_type(suite):
    assert suite.wait_for_line("Ready on ") == f"Ready on http://localhost:{suite.port}"
    assert suite.key.startswith("pm_")
    assert (suite.data_dir / "api-key").read_text().strip() == suite.key
    for command in ("grpcurl ", "buf curl", "curl ", "browser "):
        assert suite.wait_for_line(command)
    assert is_healthy(suite)


def test_logs_are_kept_for_their_owner_and_hold_no_key(suite):
    logs = list((suite.data_dir / "logs").glob("*.log"))
    assert {path.stem for path in logs} == set(SERVICES)
    for path in logs:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert suite.key not in path.read_text()


def test_a_second_run_on_the_same_data_is_refused(suite):
    second = start(suite.data_dir.parent, {})
    code, printed = ended(second)
    assert code == 1
    assert f"process {suite.process.pid}" in printed
    assert "POINTSMAN_DATA_DIR" in printed
    assert is_healthy(suite)


def test_a_busy_port_is_one_line_that_says_what_to_do():
    with data_directory() as directory, socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        code, printed = ended(start(directory, {}, port=port))
        assert code == 1
        assert printed.splitlines() == [
            f"port {port} is in use by another program; stop that one, "
            f"or choose another port: PORT={port + 1} make run"
        ]


@pytest.mark.parametrize(
    ("variable", "value", "code"), [("PORT", "http", 2), ("SANDBOX", "none", 2), ("API_KEY", "short", 2)]
)
def test_a_bad_variable_is_one_line_that_names_it(variable, value, code):
    with data_directory() as directory:
        assert ended(start(directory, {variable: value}))[0] == code
        assert ended(start(directory, {variable: value}))[1].startswith(f"{variable}: ")


def test_a_bad_variable_of_a_service_ends_the_run_with_that_services_words():
    with data_directory() as directory:
        code, printed = ended(start(directory, {"DATABASE_URL": "nonsense://"}), timeout=300)
        assert code == 1
        assert "DATABASE_URL" in printed


def test_a_missing_program_is_one_line_that_says_what_to_install(tmp_path):
    only = tmp_path / "bin"
    only.mkdir()
    with data_directory() as directory:
        code, printed = ended(start(directory, {"PATH": str(only)}))
        assert code == 1
        assert "apt-get install bubblewrap" in printed


def other_pid(suite, service, pid):
    try:
        return suite.pid(service) != pid
    except LookupError:
        return False


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_service_comes_back_and_serves(harmed, service):
    pid = harmed.pid(service)
    os.kill(pid, signal.SIGKILL)
    # Health is asked once a second: for a moment it still tells of the one that is gone.
    wait_until(lambda: is_gone(pid) and other_pid(harmed, service, pid))
    wait_until(lambda: is_healthy(harmed))
    assert ask(harmed, "What is 6*7?") == "42"


@pytest.fixture(scope="module")
def harmed():
    """One installation for all tests that kill parts of it."""

    with running() as started:
        yield started


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything_and_leaves_no_process(make_suite, number):
    suite = make_suite()
    assert ask(suite, "What is 2+2?") == "4"
    below = descendants(suite.process.pid)
    assert len(below) >= len(SERVICES)
    assert suite.stop(number) == 0
    wait_until(lambda: all(is_gone(pid) for pid in below))
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", suite.port)) != 0


def test_a_signal_during_the_start_stops_everything():
    with data_directory() as directory:
        suite = start(directory, {})
        suite.wait_for_line("Starting Pointsman")
        wait_until(lambda: len(children(suite.process.pid)) >= 1)
        below = descendants(suite.process.pid)
        assert suite.stop(signal.SIGTERM) == 0
        wait_until(lambda: all(is_gone(pid) for pid in below))


def test_a_second_signal_does_not_wait(make_suite):
    suite = make_suite()
    below = descendants(suite.process.pid)
    # It would hold up the end for as long as it may.
    os.kill(suite.pid("runner"), signal.SIGSTOP)
    suite.process.send_signal(signal.SIGTERM)
    suite.wait_for_line("Stopping")
    began = time.monotonic()
    suite.process.send_signal(signal.SIGTERM)
    suite.process.wait(STOP_SECONDS)
    assert time.monotonic() - began < _GRACE_SECONDS
    wait_until(lambda: all(is_gone(pid) for pid in below))


def test_a_killed_supervisor_leaves_no_process(make_suite):
    suite = make_suite()
    assert ask(suite, "What is 2+2?") == "4"
    below = descendants(suite.process.pid)
    suite.process.kill()
    wait_until(lambda: all(is_gone(pid) for pid in below), timeout=60)


def test_a_service_that_hangs_does_not_hold_up_the_end():
    # The supervisor, but that it gives its services three seconds to end instead of fifteen.
    grace = "import supervisor.suite; supervisor.suite._GRACE_SECONDS = 3.0"
    program = ("-c", f"{grace}; import runpy; runpy.run_module('supervisor', run_name='__main__')")
    with running(program=program) as suite:
        hanging = suite.pid("session")
        os.kill(hanging, signal.SIGSTOP)
        assert suite.stop() == 0
        wait_until(lambda: is_gone(hanging))


def test_the_same_data_serves_again_after_a_stop(make_suite):
    first = make_suite()
    first.stop()
    again = start(first.data_dir.parent, {})
    try:
        again.wait_for_line("Ready on ")
        assert again.wait_for_line("API key").split()[2] == first.key
    finally:
        again.stop()


def test_no_service_gets_what_is_not_its_own(make_suite):
    suite = make_suite(ANTHROPIC_API_KEY="sk-ant-canary-1", GROQ_API_KEY="gsk-canary-2")
    for service in SERVICES:
        environ = Path(f"/proc/{suite.pid(service)}/environ").read_bytes()
        assert (b"canary" in environ) == (service == "llm-proxy")
        assert (suite.key.encode() in environ) == (service == "router")


def test_make_lists_its_doors():
    done = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    for door in ("make run", "make test", "make lint", "make proto"):
        assert door in done.stdout
