"""The README's first five minutes, typed at a real installation with the demo model."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

import pytest
from support.shell_clients import buf_curl, curl, curl_json, events, grpcurl, kind, sequences

RUN_TURN = "pointsman.router.v1.RouterService/RunTurn"
READ_FILE = "pointsman.session.v1.WorkspaceService/ReadFile"
GET_SESSION = "pointsman.session.v1.SessionService/GetSession"
WATCH = "pointsman.session.v1.SessionService/WatchEvents"
HELLO = "Create hello.py that prints hello world, then run it"

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]


def in_order(stream: list[dict[str, Any]], *wanted: str) -> bool:
    """Whether the wanted kinds appear in the stream in this order."""
    kinds = iter([kind(event) for event in stream])
    return all(name in kinds for name in wanted)


def assert_hello_turn(stream: list[dict[str, Any]]) -> str:
    """The stream is one whole turn that wrote and ran hello.py; gives the session's name."""
    assert in_order(
        stream, "turnQueued", "turnStarted", "toolUse", "fileChange", "toolResult", "turnFinished"
    ), [kind(event) for event in stream]
    numbers = sequences(stream)
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert kind(stream[-1]) == "turnFinished"
    assert stream[-1]["turnFinished"]["outcome"] == "TURN_STATE_SUCCEEDED"
    assert "hello world" in stream[-1]["turnFinished"]["result"]
    return "/".join(stream[-1]["turn"].split("/")[:2])


def test_a_question_over_curl_is_answered(suite):
    status, answer = curl_json(f"{suite.url}/query", {"query": "What is 2+2?"}, key=suite.key)
    assert status == 200
    assert answer["success"] is True
    assert answer["response"] == "4"


def test_the_answer_is_computed_and_not_canned(suite):
    _, answer = curl_json(f"{suite.url}/query", {"query": "What is 17*23?"}, key=suite.key)
    assert answer["response"] == "391"


@pytest.mark.parametrize(
    ("key", "reason"), [(None, "CREDENTIAL_MISSING"), ("not-the-key", "CREDENTIAL_INVALID")]
)
def test_a_call_without_a_valid_key_says_which(suite, key, reason):
    status, answer = curl_json(f"{suite.url}/query", {"query": "What is 2+2?"}, key=key)
    assert status == 401
    assert answer["details"][0]["reason"] == reason
    over_grpc = grpcurl(suite.port, RUN_TURN, {"prompt": "hi"}, key=key)
    assert over_grpc.status != 0
    assert "Unauthenticated" in over_grpc.err
    assert reason in over_grpc.err


def test_an_agent_writes_a_file_runs_it_and_remembers(suite):
    stream = events(grpcurl(suite.port, RUN_TURN, {"prompt": HELLO}, key=suite.key))
    session = assert_hello_turn(stream)

    pieces = grpcurl(suite.port, READ_FILE, {"session": session, "path": "hello.py"}, key=suite.key).stream()
    assert pieces[0]["file"]["path"] == "hello.py"
    assert b"hello world" in b"".join(base64.b64decode(piece.get("data", "")) for piece in pieces)

    question = {"session": session, "prompt": "What did I ask you to do first?"}
    second = events(grpcurl(suite.port, RUN_TURN, question, key=suite.key))
    assert "hello.py" in second[-1]["turnFinished"]["result"]
    assert sequences(second)[0] == sequences(stream)[-1] + 1


@pytest.mark.parametrize("protocol", ["grpc", "grpcweb"])
def test_the_same_turn_runs_over_buf_curl(suite, protocol):
    answer = buf_curl(suite.port, RUN_TURN, {"prompt": HELLO}, key=suite.key, protocol=protocol)
    assert answer.status == 0, answer.err
    assert_hello_turn(events(answer))


def test_services_can_be_listed_described_and_asked_for_health_without_a_key(suite):
    listed = grpcurl(suite.port, "list").out.split()
    assert {
        "pointsman.router.v1.RouterService",
        "pointsman.session.v1.SessionService",
        "pointsman.session.v1.WorkspaceService",
        "pointsman.llm.v1.ModelService",
        "grpc.health.v1.Health",
    } <= set(listed)
    described = grpcurl(suite.port, "describe pointsman.session.v1.SessionService")
    assert "rpc WatchEvents" in described.out
    health = grpcurl(suite.port, "grpc.health.v1.Health/Check")
    assert health.json() == {"status": "SERVING"}
    status, body = curl(f"{suite.url}/healthz")
    assert status == 200
    assert json.loads(body)["status"] == "healthy"


def test_a_dropped_client_gets_the_rest_exactly(suite):
    request_id = str(uuid.uuid4())
    asked = {"prompt": HELLO, "request_id": request_id}
    whole = events(grpcurl(suite.port, RUN_TURN, asked, key=suite.key))
    kept = [event for event in whole if int(event.get("sequence", 0))]
    turn = whole[-1]["turn"]
    session = "/".join(turn.split("/")[:2])
    for cut in (0, 1, len(kept) // 2, len(kept) - 1):
        cursor = {"session": session, "turn": turn, "after_sequence": cut}
        rest = events(grpcurl(suite.port, WATCH, cursor, key=suite.key))
        assert rest == kept[cut:]


def test_a_client_that_drops_in_mid_turn_goes_on_from_its_cursor(suite):
    # A machine that stands still has said nothing yet when the client drops: then with more time.
    for leave_after, awake_after in ((2, 3), (10, 15), (30, 45)):
        asked = {"prompt": f"Run `sleep {awake_after} && echo awake`"}
        extra = ["-max-time", str(leave_after)]
        dropped = grpcurl(suite.port, RUN_TURN, asked, key=suite.key, extra=extra)
        seen = events(dropped)
        if sequences(seen):
            break
    assert dropped.status != 0
    assert "turnFinished" not in [kind(event) for event in seen]
    turn = seen[-1]["turn"]
    session = "/".join(turn.split("/")[:2])
    cursor = {"session": session, "turn": turn, "after_sequence": sequences(seen)[-1]}
    rest = events(grpcurl(suite.port, WATCH, cursor, key=suite.key))
    numbers = sequences(seen) + sequences(rest)
    assert numbers == list(range(1, len(numbers) + 1))
    assert "awake" in rest[-1]["turnFinished"]["result"]


def test_models_say_which_is_the_demo(suite):
    status, body = curl(f"{suite.url}/v1/models", "-H", f"Authorization: Bearer {suite.key}")
    assert status == 200
    models = {model["name"]: model for model in json.loads(body)["models"]}
    assert "demo" in models["demo/offline"]["description"].lower()
    assert models["demo/offline"]["isDefault"] is True
    assert models["groq/openai/gpt-oss-120b"].get("available", False) is False
    assert models["groq/openai/gpt-oss-120b"]["missingCredential"] == "GROQ_API_KEY"


class TestBadInput:
    """Each mistake gets an answer that says what, where and what to do."""

    def test_unknown_session(self, suite):
        answer = grpcurl(suite.port, GET_SESSION, {"name": f"sessions/{uuid.uuid4()}"}, key=suite.key)
        assert "NotFound" in answer.err
        assert "SESSION_NOT_FOUND" in answer.err

    @pytest.mark.parametrize(
        ("request_", "field"),
        [
            ({"prompt": ""}, "prompt"),
            ({"prompt": "x" * (1024 * 1024 + 1)}, "prompt"),
            ({"prompt": "x", "request_id": "not-a-uuid"}, "request_id"),
            ({"prompt": "x", "account": "../evil"}, "account"),
            ({"prompt": "x", "session": "sessions/../x"}, "session"),
        ],
    )
    def test_fields_are_named(self, suite, tmp_path, request_, field):
        body = tmp_path / "body.json"
        body.write_text(json.dumps(request_))
        status, answer = curl(
            f"{suite.url}/v1/turns",
            *("-X", "POST", "-H", "Content-Type: application/json"),
            *("-H", f"Authorization: Bearer {suite.key}", "-d", f"@{body}"),
        )
        assert status == 400, answer
        parsed = json.loads(answer)
        assert parsed["details"][0]["reason"] == "INVALID_FIELD"
        violations = next(d for d in parsed["details"] if "fieldViolations" in d)["fieldViolations"]
        assert violations[0]["field"] == field

    def test_unknown_model_names_those_that_exist(self, suite):
        status, answer = curl_json(
            f"{suite.url}/query", {"query": "hi", "model": "nobody/nothing"}, key=suite.key
        )
        assert status == 400
        assert answer["details"][0]["reason"] == "MODEL_UNKNOWN"
        assert "demo/offline" in answer["message"]

    def test_broken_json(self, suite):
        status, answer = curl_json(f"{suite.url}/query", '{"query": ', key=suite.key)
        assert status == 400
        assert answer["message"]
