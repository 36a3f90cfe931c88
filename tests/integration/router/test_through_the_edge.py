"""What clients see of the router: through a real Envoy, over JSON and gRPC."""

from __future__ import annotations

import json

import grpc
import grpc.aio
import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.router.v1 import router_service_pb2, router_service_pb2_grpc
from pointsman.system.v1 import system_service_pb2, system_service_pb2_grpc
from servicekit.errors import Failure
from servicekit.testing import wait_until
from support.router_peers import SessionPeer, finished

TURN_FAILED = SessionPeer(
    script=(
        finished(
            "", outcome=4, error=Failure(errors_pb2.ERROR_REASON_MAX_TURNS_REACHED, "Used up.").to_proto()
        ),
    )
)


async def test_the_quickstarts_commands_work(open_front):
    async with open_front() as front:
        query = await front.http.post("/query", headers=front.key, json={"query": "What is 2+2?"})
        assert query.status_code == 200
        assert query.json() | {"success": True, "response": "4"} == query.json()

        said = await front.http.post(
            "/agent/message", headers=front.key, json={"message": "Create a hello world app"}
        )
        assert said.json()["status"] == "Message processed"
        assert said.json()["timestamp"] > 1_700_000_000_000

        options = {
            "prompt": "Create a hello world app",
            "model": "groq/openai/gpt-oss-120b",
            "stream": True,
            "verbose": False,
            "maxTurns": 10,
            "permissionMode": "acceptEdits",
            "sessionId": "session_1234567890",
        }
        streamed = await front.http.post("/claude-code", headers=front.key, json=options)
        items = [json.loads(line) for line in streamed.text.splitlines() if line]
        assert [item["type"] for item in items] == [
            "turn_queued",
            "turn_started",
            "assistant_message",
            "result",
        ]
        single = await front.http.post("/claude-code", headers=front.key, json={**options, "stream": False})
        assert single.json() == {
            "type": "result",
            "result": "4",
            "sessionId": items[-1]["sessionId"],
            "requestId": single.headers["x-request-id"],
        }


@pytest.mark.parametrize(
    ("headers", "path", "reason"),
    [
        ({}, "/query", "CREDENTIAL_MISSING"),
        ({"authorization": "Bearer wrong"}, "/query", "CREDENTIAL_INVALID"),
        ({}, "/query?key=a-key-for-tests", "CREDENTIAL_INVALID"),
        ({"x-pointsman-passport": "forged"}, "/query", "CREDENTIAL_MISSING"),
    ],
)
async def test_who_is_not_let_in_is_told_why_in_json(open_front, headers, path, reason):
    async with open_front() as front:
        answer = await front.http.post(path, headers=headers, json={"query": "hi"})
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["code"] == 16
    assert answer.json()["details"][0]["reason"] == reason


async def test_who_is_not_let_in_is_told_why_over_grpc(open_front):
    async with open_front() as front:
        stub = router_service_pb2_grpc.RouterServiceStub(front.channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Query(router_service_pb2.QueryRequest(query="hi"))
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
    failure = Failure.from_rpc_error(refused.value, "edge")
    assert failure.reason == errors_pb2.ERROR_REASON_CREDENTIAL_MISSING
    assert failure.message == refused.value.details()


async def test_who_is_not_let_in_is_told_why_over_grpc_web(open_front):
    async with open_front() as front:
        answer = await front.http.post(
            "/pointsman.router.v1.RouterService/Query",
            headers={"content-type": "application/grpc-web+proto", "x-grpc-web": "1"},
            content=b"\0\0\0\0\0",
        )
    assert answer.headers["grpc-status"] == "16"
    assert answer.headers["grpc-status-details-bin"]


async def test_a_failed_turn_is_a_typed_error_over_json(open_front):
    async with open_front(TURN_FAILED) as front:
        query = await front.http.post("/query", headers=front.key, json={"query": "hi"})
        run = await front.http.post("/claude-code", headers=front.key, json={"prompt": "hi", "stream": False})
    for answer in (query, run):
        assert answer.status_code == 400
        assert answer.json()["details"][0]["reason"] == "MAX_TURNS_REACHED"


async def test_health_needs_no_key_and_its_status_tells_that_not_all_is_well(open_front):
    async with open_front() as front:
        answer = await front.http.get("/healthz")
        over_grpc = await system_service_pb2_grpc.SystemServiceStub(front.channel).GetHealth(
            system_service_pb2.GetHealthRequest(), timeout=60
        )
    health = answer.json()
    assert (answer.status_code, health["status"]) == (503, "unhealthy")
    assert "x-pointsman-health" not in answer.headers
    assert {entry["service"] for entry in health["services"]} == {"router", "session", "runner", "llm-proxy"}
    assert over_grpc.status == "unhealthy"


@pytest.mark.parametrize(
    ("path", "body", "content_type"),
    [
        ("/query", {"query": "hi"}, "application/json"),
        ("/v1/quota", None, "application/json"),
        ("/claude-code", {"prompt": "hi", "stream": False}, "application/json"),
        ("/claude-code", {"prompt": "hi"}, "application/x-ndjson"),
        ("/v1/turns:run", {"prompt": "hi"}, "application/x-ndjson"),
        ("/v1/audit:export", None, "application/x-ndjson"),
    ],
)
async def test_lines_of_json_are_called_that_and_one_object_is_not(open_front, path, body, content_type):
    async with open_front() as front:
        answer = await front.http.request("POST" if body else "GET", path, json=body, headers=front.key)
    assert (answer.status_code, answer.headers["content-type"]) == (200, content_type)
    assert "x-pointsman-body" not in answer.headers
    for line in answer.text.splitlines():
        json.loads(line)


async def test_a_key_is_made_used_and_taken_back_over_json_and_the_audit_log_tells_of_it(open_front):
    async with open_front() as front:
        body = {"key": {"title": "CI", "role": "KEY_ROLE_MEMBER"}}
        made = (await front.http.post("/v1/keys", headers=front.key, json=body)).json()
        ours = {"authorization": f"Bearer {made['secret']}"}
        assert (await front.http.post("/query", headers=ours, json={"query": "hi"})).status_code == 200
        refused = await front.http.get("/v1/keys", headers=ours)
        assert (refused.status_code, refused.json()["details"][0]["reason"]) == (403, "SCOPE_MISSING")
        await front.http.post(f"/v1/{made['key']['name']}:revoke", headers=front.key, json={})
        revoked = await front.http.post("/query", headers=ours, json={"query": "hi"})
        assert (revoked.status_code, revoked.json()["details"][0]["reason"]) == (401, "CREDENTIAL_REVOKED")

        async def entries() -> list[dict[str, str]]:
            exported = await front.http.get("/v1/audit:export", headers=front.key)
            return [json.loads(line)["entry"] for line in exported.text.splitlines() if line]

        async def complete() -> bool:
            return len(await entries()) >= 4

        await wait_until(complete)
        told = [(entry["method"].rpartition("/")[2], entry["code"]) for entry in await entries()]
        assert told == [
            ("CreateKey", "OK"),
            ("Query", "OK"),
            ("RevokeKey", "OK"),
            ("query", "UNAUTHENTICATED"),
        ]
        assert {entry["sourceAddress"] for entry in await entries()} == {"127.0.0.1"}


async def test_a_tenant_over_its_rate_is_refused_at_the_edge_with_the_right_code_in_both_worlds(
    open_front, tmp_path
):
    file = tmp_path / "router.yaml"
    file.write_text("limits: {default: {requests_per_minute: 1}}")
    async with open_front(settings_file=file) as front:
        first = await front.http.post("/query", headers=front.key, json={"query": "hi"})
        second = await front.http.post("/query", headers=front.key, json={"query": "hi"})
        stub = router_service_pb2_grpc.RouterServiceStub(front.channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Query(
                router_service_pb2.QueryRequest(query="hi"), metadata=list(front.key.items()), timeout=60
            )
    assert (first.status_code, second.status_code) == (200, 429)
    assert second.json()["details"][0]["reason"] == "RATE_LIMITED"
    assert int(second.headers["retry-after"]) >= 1
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    failure = Failure.from_rpc_error(refused.value, "edge")
    assert failure.reason == errors_pb2.ERROR_REASON_RATE_LIMITED
    assert failure.retry_after is not None
