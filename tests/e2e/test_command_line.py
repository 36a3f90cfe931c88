"""The `pointsman` command and the Python client at a real installation."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from pointsman.session.v1 import session_service_pb2
from pointsman_client import AsyncClient, Client

PROGRAM = Path(sys.executable).with_name("pointsman")

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]


def pointsman(
    suite: Any, *arguments: str, key: str | None = None, text: str = ""
) -> subprocess.CompletedProcess[str]:
    environ = {
        "PATH": os.environ["PATH"],
        "POINTSMAN_URL": suite.url,
        "POINTSMAN_API_KEY": suite.key if key is None else key,
    }
    return subprocess.run(
        [str(PROGRAM), *arguments],
        env=environ,
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def lines(answer: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert answer.returncode == 0, answer.stderr
    return [json.loads(line) for line in answer.stdout.splitlines()]


def test_everything_is_well(suite):
    answer = pointsman(suite, "doctor")
    assert answer.returncode == 0, answer.stdout
    assert answer.stdout.count("ok") >= 3


def test_a_question_is_answered_by_a_model_alone_and_by_no_sandbox(suite):
    events = lines(pointsman(suite, "--json", "run", "What is 17*23?"))
    kinds = [kind for event in events for kind in event if kind not in ("sequence", "createTime", "turn")]
    triage = next(event["triageDecided"] for event in events if "triageDecided" in event)
    assert (triage["route"], triage["decidedBy"]) == ("TURN_ROUTE_DIRECT", "rule:question")
    assert "sandboxChanged" not in kinds
    assert events[-1]["turnFinished"]["result"] == "391"


def test_work_is_done_by_an_agent_whose_files_can_be_looked_at(suite):
    worked = pointsman(suite, "run", "Create hello.py that prints hello world, then run it")
    assert worked.returncode == 0, worked.stderr
    assert "created hello.py" in worked.stdout
    session = lines(pointsman(suite, "--json", "sessions", "--limit", "1"))[0]["name"]
    assert "hello.py" in pointsman(suite, "files", "list", session).stdout
    assert "hello world" in pointsman(suite, "files", "get", session, "hello.py").stdout
    again = pointsman(suite, "run", "-q", "--session", session, "-", text="What did I ask you to do first?")
    assert "hello.py" in again.stdout


def test_a_chat_goes_on_line_by_line_and_again_later(suite):
    talked = pointsman(
        suite, "chat", text="Create note.txt with the text hi\n\nWhat did I ask you to do first?\n"
    )
    assert talked.returncode == 0, talked.stderr
    # The second answer knows of the first question.
    assert talked.stdout.count("note.txt") >= 2
    session = talked.stderr.rpartition("--session ")[2].strip()
    again = pointsman(suite, "chat", "--session", session, text="What did I ask you to do first?\n")
    assert (again.returncode, "note.txt" in again.stdout) == (0, True), again.stderr
    assert session in again.stderr


def test_ctrl_c_in_a_chat_cancels_the_turn_and_the_chat_goes_on(suite):
    chat = started(suite, "chat", "--account", "hasty")
    assert chat.stdin is not None
    assert chat.stdout is not None
    chat.stdin.write("Run `sleep 600`\n")
    chat.stdin.flush()
    wait_for(chat.stdout, "sleep 600")
    chat.send_signal(signal.SIGINT)
    out, err = chat.communicate("What is 6*7?\n", timeout=60)
    assert chat.returncode == 0, err
    assert "cancelled" in err
    assert len(out.splitlines()) > 1
    states = [turn["state"] for turn in turns_of(suite, err.rpartition("--session ")[2].strip())]
    assert states == ["TURN_STATE_CANCELLED", "TURN_STATE_SUCCEEDED"]


def started(suite: Any, *arguments: str) -> subprocess.Popen[str]:
    environ = {"PATH": os.environ["PATH"], "POINTSMAN_URL": suite.url, "POINTSMAN_API_KEY": suite.key}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [str(PROGRAM), *arguments], env=environ, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )


def wait_for(stream: Any, text: str) -> None:
    seen = ""
    while text not in seen:
        piece = stream.readline()
        assert piece, seen
        seen += piece


def turns_of(suite: Any, session: str) -> list[dict[str, Any]]:
    request = session_service_pb2.ListTurnsRequest(session=session)

    async def ask(client: AsyncClient) -> session_service_pb2.ListTurnsResponse:
        return await client.call(client.sessions.ListTurns(request, timeout=60))

    with Client(suite.url, suite.key) as client:
        answer = client.run(ask(client.asynchronous))
    turns = [MessageToDict(turn) for turn in answer.turns]
    return sorted(turns, key=lambda turn: turn["createTime"])


def test_a_file_is_put_and_got_back_as_it_was(suite, tmp_path):
    session = lines(pointsman(suite, "--json", "run", "--route", "direct", "What is 1+1?"))[-1]["turn"]
    session = session.partition("/turns/")[0]
    source = tmp_path / "blob.bin"
    source.write_bytes(bytes(range(256)) * 400)
    put = lines(pointsman(suite, "--json", "files", "put", session, str(source), "deep/er/blob.bin"))[0]
    assert (put["path"], int(put["sizeBytes"])) == ("deep/er/blob.bin", 102_400)
    got = tmp_path / "got.bin"
    fetched = pointsman(suite, "files", "get", session, "deep/er/blob.bin", "--output", str(got))
    assert fetched.returncode == 0, fetched.stderr
    assert got.read_bytes() == source.read_bytes()
    assert pointsman(suite, "files", "put", session, str(source)).returncode == 0
    assert {"blob.bin", "deep/er/blob.bin"} <= set(pointsman(suite, "files", "list", session).stdout.split())
    outside = pointsman(suite, "files", "put", session, str(source), "../blob.bin")
    assert (outside.returncode, "PATH_REFUSED" in outside.stderr) == (4, True)
    missing = pointsman(suite, "files", "get", session, "nowhere.txt")
    assert missing.returncode == 4


def test_an_export_of_the_audit_log_is_lines_of_json_oldest_first(suite):
    for _ in range(2):
        lines(pointsman(suite, "--json", "keys", "create", "exported", "--role", "viewer"))
    # What happens is in the log a moment later.
    deadline = time.monotonic() + 60
    while len(entries := lines(pointsman(suite, "audit", "--export"))) < 2:
        assert time.monotonic() < deadline, entries
    times = [entry["createTime"] for entry in entries]
    assert all(entry["method"] and entry["id"] for entry in entries)
    assert times[0] <= times[-1]


def test_a_doctor_finds_what_is_not_well(suite):
    lost = pointsman(suite, "--url", "http://127.0.0.1:9", "--json", "doctor")
    assert lost.returncode == 6
    checks = [json.loads(line) for line in lost.stdout.splitlines()]
    assert [check["ok"] for check in checks] == [False, False, False]
    locked_out = pointsman(suite, "--json", "doctor", key="not-the-key")
    assert locked_out.returncode == 6
    found = [json.loads(line)["ok"] for line in locked_out.stdout.splitlines()]
    assert found[:2] == [True, False]


def test_keys_are_made_used_and_taken_back(suite):
    made = lines(pointsman(suite, "--json", "keys", "create", "CI", "--role", "viewer"))[0]
    assert pointsman(suite, "sessions", key=made["secret"]).returncode == 0
    refused = pointsman(suite, "run", "hi", key=made["secret"])
    assert (refused.returncode, "SCOPE_MISSING" in refused.stderr) == (3, True)
    assert pointsman(suite, "keys", "revoke", made["key"]["name"]).returncode == 0
    revoked = pointsman(suite, "sessions", key=made["secret"])
    assert (revoked.returncode, "CREDENTIAL_REVOKED" in revoked.stderr) == (3, True)
    assert "revoked" in pointsman(suite, "keys", "list").stdout

    def audited() -> list[dict[str, Any]]:
        entries = lines(pointsman(suite, "--json", "audit", "--limit", "200"))
        return [entry for entry in entries if entry.get("resource") == made["key"]["name"]]

    deadline = time.monotonic() + 60
    while len(creations := audited()) < 2 and time.monotonic() < deadline:
        continue
    assert [entry["method"].rpartition("/")[2] for entry in creations] == ["RevokeKey", "CreateKey"]


def test_a_session_begins_from_a_template_that_was_made_from_another(suite):
    worked = pointsman(suite, "--json", "run", "Create notes.txt with the text remember the milk")
    session = lines(worked)[-1]["turn"].rpartition("/turns/")[0]
    made = lines(
        pointsman(suite, "--json", "templates", "create", "notes", "--from", session, "--title", "N")
    )
    assert (made[0]["name"], made[0]["title"]) == ("templates/notes", "N")
    again = pointsman(suite, "templates", "create", "notes")
    assert (again.returncode, "TEMPLATE_EXISTS" in again.stderr) == (4, True)
    assert "notes" in pointsman(suite, "templates", "list").stdout
    answer = pointsman(suite, "run", "-q", "--template", "notes", "Run `cat notes.txt`")
    assert "remember the milk" in answer.stdout, answer.stderr
    assert pointsman(suite, "templates", "delete", "notes").returncode == 0
    gone = pointsman(suite, "run", "--template", "notes", "hi")
    assert (gone.returncode, "TEMPLATE_NOT_FOUND" in gone.stderr) == (4, True)


def test_snapshots_are_made_listed_restored_and_deleted(suite, tmp_path):
    worked = pointsman(suite, "--json", "run", "Create notes.txt with the text remember the milk")
    session = lines(worked)[-1]["turn"].rpartition("/turns/")[0]
    name = pointsman(suite, "snapshots", "create", session, "--title", "before").stdout.strip()
    assert name.startswith(f"{session}/snapshots/")
    (listed,) = lines(pointsman(suite, "--json", "snapshots", "list", session))
    assert (listed["name"], listed["title"]) == (name, "before")
    other = tmp_path / "notes.txt"
    other.write_text("something else")
    assert pointsman(suite, "files", "put", session, str(other)).returncode == 0
    assert pointsman(suite, "snapshots", "restore", name).returncode == 0
    assert "remember the milk" in pointsman(suite, "files", "get", session, "notes.txt").stdout
    assert pointsman(suite, "snapshots", "delete", name).returncode == 0
    assert "No snapshots" in pointsman(suite, "snapshots", "list", session).stdout
    for again in ("delete", "restore"):
        gone = pointsman(suite, "snapshots", again, name)
        assert (gone.returncode, "SNAPSHOT_NOT_FOUND" in gone.stderr) == (4, True)


def test_the_limit_of_an_account_is_set_and_shown(suite):
    assert pointsman(suite, "accounts", "limit", "shop", "7").returncode == 0
    accounts = lines(pointsman(suite, "--json", "accounts", "list"))
    [shop] = [account for account in accounts if account["name"] == "accounts/shop"]
    assert (shop["maxConcurrentTurns"], shop["effectiveMaxConcurrentTurns"]) == (7, 7)
    assert "shop" in pointsman(suite, "accounts", "list").stdout
    assert pointsman(suite, "accounts", "limit", "shop", "0").returncode == 0


def test_what_goes_wrong_has_an_exit_code_and_a_line(suite):
    assert pointsman(suite, "sessions", key="wrong").returncode == 3
    missing = pointsman(suite, "run", "hi", "--session", str(uuid.uuid4()))
    assert (missing.returncode, "SESSION_NOT_FOUND" in missing.stderr) == (4, True)
    assert pointsman(suite, "--url", "http://127.0.0.1:9", "models").returncode == 6
    assert "Traceback" not in missing.stderr


def test_usage_models_and_quota_are_shown(suite):
    assert "demo/offline" in pointsman(suite, "models").stdout
    assert pointsman(suite, "usage", "--by", "model,day").returncode == 0
    assert pointsman(suite, "quota").returncode == 0


def test_one_run_turn_outlives_the_kill_of_router_session_and_edge(make_suite):
    suite = make_suite()
    killed: list[str] = []

    def kill() -> None:
        for service in ("router", "edge", "session"):
            os.kill(suite.pid(service), signal.SIGKILL)
            killed.append(service)
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                try:
                    if suite.pid(service):
                        break
                except LookupError:
                    time.sleep(0.05)

    with Client(suite.url, suite.key) as client:
        events = []
        killing = threading.Thread(target=kill)
        for event in client.run_turn("Run `sleep 8 && echo awake`"):
            events.append(event)
            if event.HasField("tool_use"):
                killing.start()
        killing.join()
    assert killed == ["router", "edge", "session"]
    sequences = [event.sequence for event in events if event.sequence]
    assert sequences == list(range(1, len(sequences) + 1))
    assert events[-1].HasField("turn_finished")
    assert "awake" in events[-1].turn_finished.result
