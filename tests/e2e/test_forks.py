"""A fork of a session's newest turn has the files that its workspace has, whoever wrote them."""

from __future__ import annotations

import time

import httpx
import pytest
from pointsman.session.v1 import turn_pb2
from pointsman_client import Client
from support.suite import Suite

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]
# A job that goes on after the turn that began it.
JOB = "(sleep 1; echo late > late.txt) >/dev/null 2>&1 &"
SECONDS = 60


def test_a_fork_has_what_a_job_wrote_after_the_turn(suite: Suite) -> None:
    with Client(suite.url, suite.key) as client:
        session = client.create_session(account="forked").name
        route = turn_pb2.TURN_ROUTE_AGENT
        *_, last = client.run_turn(f"run `{JOB}`", session=session, route=route)
        assert last.turn_finished.outcome == turn_pb2.TURN_STATE_SUCCEEDED, last
        deadline = time.monotonic() + SECONDS
        headers = {"authorization": f"Bearer {suite.key}"}
        files = f"{suite.url}/v1/{session}/files"
        while "late.txt" not in httpx.get(files, headers=headers, timeout=60).text:
            assert time.monotonic() < deadline, "the job did not write its file"
        forked = httpx.post(f"{suite.url}/v1/{session}:fork", headers=headers, json={}, timeout=60)
        copy = forked.json()["session"]["name"]
        assert client.read_file(copy, "late.txt") == b"late\n"
