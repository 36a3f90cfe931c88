"""What other users of the machine see of an installation: nothing. It runs as root, and as a normal user."""

from __future__ import annotations

import base64
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.suite import Suite, data_directory, running, start

pytestmark = pytest.mark.heavy
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--")
USER = 12345


@pytest.fixture(scope="module", params=[None, USER], ids=["root", "user"])
def installation(request: pytest.FixtureRequest) -> Iterator[Suite]:
    """An installation whose starter had a umask that keeps nothing from anybody."""
    with running(user=request.param, umask=0) as suite:
        yield suite


def _post(suite: Suite, path: str, method: str = "POST", **body: object) -> httpx.Response:
    headers = {"authorization": f"Bearer {suite.key}"}
    return httpx.request(method, suite.url + path, json=body, headers=headers, timeout=120, trust_env=False)


def _session_with_files(suite: Suite) -> str:
    """Make a session with a file from outside, and programs that its agent made."""
    session = str(_post(suite, "/v1/sessions", session={}).json()["session"]["name"])
    data = base64.b64encode(b"CANARY-FILE").decode()
    assert _post(suite, f"/v1/{session}/files/deep/secret.txt", "PUT", data=data).status_code == 200
    line = "cp /bin/sh s; chmod 4755 s; chmod u+s s; install -m 751 /bin/sh tool"
    turn = {
        "session": session,
        "prompt": f"Run `{line}`",
        "model": "demo/offline",
        "route": "TURN_ROUTE_AGENT",
    }
    answer = _post(suite, "/v1/turns:run", **turn)
    assert "TURN_STATE_SUCCEEDED" in answer.text, answer.text
    return session.rpartition("/")[2]


def _modes(data: Path) -> dict[str, int]:
    """Return the modes of all that Pointsman wrote itself: below a session's workspace its users decide."""
    found: dict[str, int] = {}
    for folder, folders, files in os.walk(data):
        if Path(folder).parent.parent == data / "runner" / "workspaces":
            folders.clear()
            continue
        for name in (folder, *(str(Path(folder, file)) for file in files)):
            found[name] = stat.S_IMODE(os.lstat(name).st_mode)
    return found


def test_other_users_see_nothing_and_workspaces_keep_modes_without_setuid(installation: Suite) -> None:
    session = _session_with_files(installation)
    data = installation.data_dir
    workspace = next((data / "runner/workspaces").glob(f"*/{session}"))
    assert (workspace / "deep/secret.txt").read_bytes() == b"CANARY-FILE"
    assert stat.S_IMODE((workspace / "tool").stat().st_mode) == 0o751
    assert stat.S_IMODE((workspace / "s").stat().st_mode) & 0o6000 == 0
    assert stat.S_IMODE((workspace / "deep").stat().st_mode) == 0o755
    assert {name: oct(mode) for name, mode in _modes(data).items() if mode & 0o7077} == {}
    for attempt in (f"ls {data}", f"cat {workspace}/deep/secret.txt", f"{workspace}/tool -c true"):
        ran = subprocess.run([*NOBODY, "sh", "-c", attempt], capture_output=True, text=True, check=False)
        assert ran.returncode != 0
        assert "CANARY" not in ran.stdout


def test_no_process_leaves_a_core_dump(installation: Suite) -> None:
    for service in ("router", "session", "runner", "llm-proxy", "edge"):
        limits = Path(f"/proc/{installation.pid(service)}/limits").read_text()
        core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
        assert core.split()[4:6] == ["0", "0"], service


def test_a_directory_that_another_user_made_is_refused_in_one_line() -> None:
    with data_directory() as directory:
        (directory / "data").mkdir(mode=0o777)
        os.chown(directory / "data", 65534, 65534)
        suite = start(directory, {})
        assert suite.process.wait(60) == 1
        line = suite.wait_for_line("POINTSMAN_DATA_DIR: ")
        assert "belongs to user 65534" in line and "chown -R 0" in line
        assert list((directory / "data").iterdir()) == []
