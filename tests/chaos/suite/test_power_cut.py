"""The power is cut in the first seconds: the next start serves, with the key that was printed.

Small by default; CHAOS_FULL=1 cuts it at each second of the first 30.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import httpx
import pytest
from support.power_cut import SUPERVISOR, Recorder
from support.suite import Suite, data_directory, start

pytestmark = pytest.mark.heavy
FULL = os.environ.get("CHAOS_FULL") == "1"
SECONDS = 30


def _call(suite: Suite, method: str, path: str, **body: object) -> httpx.Response:
    headers = {"authorization": f"Bearer {suite.key}"}
    return httpx.request(
        method, suite.url + path, json=body or None, headers=headers, timeout=60, trust_env=False
    )


def _ready(suite: Suite) -> None:
    suite.wait_for_line("Ready on ")
    suite.key = suite.wait_for_line("API key").split()[2]


def _make_session(suite: Suite) -> tuple[float, str]:
    """Make a session with a file; return when that was acknowledged, and its name."""
    answer = _call(suite, "POST", "/v1/sessions", session={"title": "kept"})
    assert answer.status_code == 200, answer.text
    name = str(answer.json()["session"]["name"])
    assert _call(suite, "PUT", f"/v1/{name}/files/a/b.txt", data="a2VwdA==").status_code == 200
    return time.time(), name


def _serves(data: Path, key: str, sessions: list[str]) -> None:
    """Start on what is left; `key` is '' if none was printed, `sessions` were acknowledged."""
    again = start(data, {})
    try:
        _ready(again)
        assert again.key.startswith("pm_")
        assert key in ("", again.key)
        assert _call(again, "POST", "/query", query="What is 2+2?").status_code == 200
        for name in sessions:
            assert _call(again, "GET", f"/v1/{name}").status_code == 200
            assert "a2VwdA==" in _call(again, "GET", f"/v1/{name}/files/a/b.txt").text
    finally:
        again.stop()


def test_the_next_start_serves_with_the_key_that_was_printed(tmp_path: Path) -> None:
    with data_directory() as directory:
        recorder = Recorder(directory, tmp_path)
        began = time.time()
        suite = start(directory, recorder.environ, program=SUPERVISOR)
        try:
            _ready(suite)
            printed, key = time.time(), suite.key
            made = [_make_session(suite)]
            while FULL and time.time() < began + SECONDS:
                made.append(_make_session(suite))
        finally:
            suite.process.kill()
            suite.process.wait(60)
        moments = [began + second for second in range(1, SECONDS + 1)]
        if not FULL:
            # While it starts, when it has just printed the key, and with something in it.
            moments = [began + 0.7, printed, made[-1][0]]
        for number, moment in enumerate(moments):
            left = directory / f"left-{number}"
            recorder.restore(moment, left)
            known = [name for when, name in made if when <= moment]
            _serves(left, key if moment >= printed else "", known)
            shutil.rmtree(left)


def test_files_of_a_first_second_without_contents_are_made_anew() -> None:
    with data_directory() as directory:
        keys = directory / "data" / "keys"
        keys.mkdir(parents=True)
        for name in ("router.pem", "session.pem", "jwks.json"):
            (keys / name).touch()
        (directory / "data" / "api-key").touch()
        _serves(directory, "", [])


def test_a_damaged_key_is_one_line_that_names_it() -> None:
    with data_directory() as directory:
        (directory / "data" / "keys").mkdir(parents=True)
        (directory / "data" / "keys" / "router.pem").write_bytes(b"\0" * 119)
        suite = start(directory, {})
        assert suite.process.wait(60) == 2
        line = suite.wait_for_line(str(directory))
        assert "keys/router.pem" in line and "delete it" in line
        assert not any("Traceback" in each for each in suite.lines)
