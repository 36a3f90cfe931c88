"""The runner's workspaces are lost: their sessions are refused, not run on empty ones, and others go on."""

from __future__ import annotations

import json
import shutil

import httpx
import pytest
from support.suite import Suite, running

pytestmark = pytest.mark.heavy


def _call(suite: Suite, method: str, path: str, **body: object) -> httpx.Response:
    headers = {"authorization": f"Bearer {suite.key}"}
    return httpx.request(
        method, suite.url + path, json=body or None, headers=headers, timeout=120, trust_env=False
    )


def _session(suite: Suite) -> str:
    return str(_call(suite, "POST", "/v1/sessions", session={}).json()["session"]["name"])


def _turn(suite: Suite, session: str, command: str) -> dict[str, object]:
    """Run a command in a turn and return how the turn finished."""
    answer = _call(
        suite,
        "POST",
        "/v1/turns:run",
        session=session,
        prompt=f"Run `{command}`",
        model="demo/offline",
        route="TURN_ROUTE_AGENT",
    )
    events = [json.loads(line).get("event", {}) for line in answer.text.splitlines() if line.strip()]
    return next(event["turnFinished"] for event in events if "turnFinished" in event)


def test_sessions_with_files_are_refused_and_a_fork_has_the_files_of_its_turn() -> None:
    with running() as suite:
        session = _session(suite)
        assert _turn(suite, session, "echo kept > a.txt")["outcome"] == "TURN_STATE_SUCCEEDED"
        # A fork waits until the files are kept as the turn left them.
        assert _call(suite, "POST", f"/v1/{session}:fork", title="Before").status_code == 200
        shutil.rmtree(suite.data_dir / "runner" / "workspaces")
        for _ in range(2):
            finished = _turn(suite, session, "ls")
            assert finished["outcome"] == "TURN_STATE_FAILED"
            assert "WORKSPACE_MISSING" in json.dumps(finished)
        for method, body in (("GET", {}), ("PUT", {"data": "eA=="})):
            answer = _call(suite, method, f"/v1/{session}/files/a.txt", **body)
            assert "WORKSPACE_MISSING" in answer.text
        answer = _call(suite, "POST", f"/v1/{session}:fork", title="With its files")
        assert answer.status_code == 200, answer.text
        fork = answer.json()
        assert "a2VwdAo=" in _call(suite, "GET", f"/v1/{fork['session']['name']}/files/a.txt").text
        assert _turn(suite, _session(suite), "ls")["outcome"] == "TURN_STATE_SUCCEEDED"
