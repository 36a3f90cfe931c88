"""Who gets in, as whom, and to what."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from google.rpc import error_details_pb2, status_pb2
from pointsman.llm.v1 import llm_service_pb2
from pointsman.router.v1 import router_service_pb2, router_service_pb2_grpc
from servicekit.testing import wait_until
from supervisor.edge import Edge, envoy_binary, render
from support.edge_peers import KEY

METADATA = [("authorization", f"Bearer {KEY}")]
QUERY = "/pointsman.router.v1.RouterService/Query"
DEPLOY = Path(__file__).resolve().parents[3] / "deploy" / "envoy"
ORIGIN = "https://app.example.com"


async def test_no_key_is_401_with_a_json_body(edge):
    answer = await edge.http.post("/query", json={"query": "hi"})
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"code": 16, "message": "No API key came with the call."}
    assert edge.peers.seen.metadata == []


async def test_no_key_is_unauthenticated_with_details_for_grpc(edge):
    stub = router_service_pb2_grpc.RouterServiceStub(edge.channel)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.Query(router_service_pb2.QueryRequest(query="hi"), timeout=60)
    assert raised.value.code() == grpc.StatusCode.UNAUTHENTICATED
    trailing: Any = raised.value.trailing_metadata()
    details = dict(trailing)["grpc-status-details-bin"]
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(details).details[0].Unpack(info)
    assert info.reason == "CREDENTIAL_MISSING"


async def test_no_key_is_unauthenticated_for_grpc_web(edge):
    answer = await edge.http.post(QUERY, headers={"content-type": "application/grpc-web+proto"})
    assert answer.headers["grpc-status"] == "16"
    assert "grpc-status-details-bin" in answer.headers


async def test_what_a_client_says_about_itself_is_dropped(edge):
    forged = {
        "x-pointsman-passport": "forged",
        "x-pointsman-tenant": "victim",
        "x-request-id": "mine",
        "x-envoy-original-path": "/healthz",
    }
    answer = await edge.http.post("/query", json={"query": "hi"}, headers={**edge.key, **forged})
    assert answer.json()["response"] == "acme: hi"
    reached = edge.peers.seen.metadata[-1]
    assert reached["x-pointsman-passport"] != "forged"
    assert "x-pointsman-tenant" not in reached
    assert reached["x-request-id"] != "mine"
    assert reached["x-request-id"] == answer.headers["x-request-id"]
    # Nor does the authorization service see it.
    assert "x-pointsman-tenant" not in edge.peers.seen.asked[-1]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"!r", b"1"),
        (b"o#HK#h", b"1"),
        (b"x~y", b"1"),
        (b"x.y-z", b"1"),
        (b"x-garbage-bin", b"!!! no base64 ==="),
        (b"x-latin", b"caf\xe9"),
        (b"grpc-timeout", b"-5"),
        (b"te", b"gzip"),
    ],
)
async def test_headers_that_http_knows_and_grpc_does_not_are_no_error_of_ours(edge, name, value):
    headers = [*((k.encode(), v.encode()) for k, v in edge.key.items()), (name, value)]
    answer = await edge.http.post("/query", json={"query": "hi"}, headers=headers)
    assert answer.status_code < 500, answer.text
    stream = await edge.http.post("/v1/turns:run", json={"prompt": "hi"}, headers=headers)
    assert stream.status_code < 500, stream.text


@pytest.mark.parametrize("given", ["-5", "5", "123456789S", "1x", "S", ""])
async def test_a_deadline_that_cannot_be_read_is_the_callers_mistake(edge, given):
    headers = {**edge.key, "grpc-timeout": given}
    as_json = await edge.http.post("/query", json={"query": "hi"}, headers=headers)
    assert as_json.status_code == 400
    assert as_json.json()["details"][0]["reason"] == "MALFORMED_REQUEST"
    assert "grpc-timeout" in as_json.json()["message"]
    as_grpc = {**headers, "content-type": "application/grpc"}
    answer = await edge.http.post(QUERY, headers=as_grpc, content=b"\0\0\0\0\0")
    assert (answer.headers["grpc-status"], "grpc-timeout" in answer.headers["grpc-message"]) == ("3", True)


async def test_the_routers_own_services_are_told_the_credential_and_not_asked_about(edge):
    forged = [("x-pointsman-passport", "forged"), ("x-pointsman-tenant", "victim")]
    stub = router_service_pb2_grpc.RouterServiceStub(edge.channel)
    request = router_service_pb2.QueryRequest(query="hi")
    answer = await stub.Query(request, metadata=[*METADATA, *forged], timeout=60)
    assert answer.response == "acme: hi"
    assert (edge.peers.seen.asked, edge.peers.seen.identified) == ([], 1)
    reached = edge.peers.seen.metadata[-1]
    assert reached["authorization"] == f"Bearer {KEY}"
    assert not {name for name in reached if name.startswith("x-pointsman-")}


async def test_the_credential_stays_at_the_edge(edge):
    both = {**edge.key, "x-api-key": KEY}
    await edge.http.post("/query", json={"query": "hi"}, headers=both)
    behind = (await edge.http.post("/llm/v1/messages", headers=both)).json()["headers"]
    for headers in (edge.peers.seen.metadata[-1], behind):
        assert "authorization" not in headers
        assert "x-api-key" not in headers
        assert "x-pointsman-passport" in headers


@pytest.mark.parametrize("key", [None, KEY])
async def test_internal_services_do_not_exist_outside(edge, key):
    call = edge.channel.unary_unary("/pointsman.llm.v1.LlmService/ResolveModel")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call(
            llm_service_pb2.ResolveModelRequest().SerializeToString(),
            metadata=METADATA if key else None,
            timeout=60,
        )
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED
    for service in (
        "session.v1.TurnService/EnqueueTurn",
        "router.v1.AuditTrailService/RecordEntries",
        "session.v1.TranscriptService/LoadEntries",
        "runner.v1.RunnerService/RunTurn",
        "system.v1.DiagnosticsService/GetDiagnostics",
    ):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await edge.channel.unary_unary(f"/pointsman.{service}")(b"", metadata=METADATA, timeout=60)
        assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED
    as_json = await edge.http.post("/pointsman.llm.v1.LlmService/ResolveModel", json={}, headers=edge.key)
    assert as_json.status_code == 405
    as_web = await edge.http.post(
        "/pointsman.llm.v1.LlmService/ResolveModel", headers={"content-type": "application/grpc-web"}
    )
    assert as_web.headers["grpc-status"] == "12"
    assert edge.peers.seen.internal_calls == 0
    assert edge.peers.seen.identified == 0


@pytest.mark.parametrize(
    "path", ["/envoy.service.auth.v3.Authorization/Check", "/grpc.channelz.v1.Channelz/GetServers"]
)
async def test_the_router_is_asked_for_passports_by_the_edge_only(edge, path):
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await edge.channel.unary_unary(path)(b"", metadata=METADATA, timeout=60)
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


class TestBadInput:
    """A typed answer, in the client's own protocol."""

    async def test_broken_json(self, edge):
        headers = {**edge.key, "content-type": "application/json"}
        answer = await edge.http.post("/query", content=b'{"query": ', headers=headers)
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["details"][0]["reason"] == "MALFORMED_REQUEST"

    async def test_a_body_of_any_size(self, edge):
        async def endless():
            yield b'{"query": "'
            for _ in range(64):
                yield b"x" * (1 << 20)

        headers = {**edge.key, "content-type": "application/json"}
        with contextlib.suppress(httpx.TransportError):
            # Refused in the middle: the client may see the answer, or only that the connection closed.
            answer = await edge.http.post("/query", content=endless(), headers=headers)
            assert answer.status_code == 413
            assert answer.json()["details"][0]["reason"] == "MESSAGE_TOO_LARGE"
        assert edge.peers.seen.metadata == []
        fits = await edge.http.post("/query", json={"query": "x" * (1 << 20)}, headers=edge.key)
        assert fits.status_code == 200

    async def test_a_wrong_type_in_json(self, edge):
        answer = await edge.http.post("/query", json={"query": {"nested": 1}}, headers=edge.key)
        assert answer.status_code == 400
        assert answer.json()["code"] == 3

    async def test_malformed_protobuf(self, edge):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await edge.channel.unary_unary(QUERY)(b"\xff\xff\xff", metadata=METADATA, timeout=60)
        assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT

    async def test_an_error_of_a_service_keeps_its_details_in_json(self, edge):
        answer = await edge.http.post("/query", json={"query": "fail"}, headers=edge.key)
        assert answer.status_code == 429
        assert answer.json() == {
            "code": 8,
            "message": "The queue is full.",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "QUEUE_FULL",
                    "domain": "pointsman",
                    "metadata": {"limit": "3"},
                }
            ],
        }

    @pytest.mark.parametrize(
        ("method", "path"), [("GET", "/v1/nothing"), ("GET", "/query"), ("DELETE", "/v1/models")]
    )
    async def test_a_path_that_is_not_there(self, edge, method, path):
        answer = await edge.http.request(method, path, headers=edge.key)
        assert answer.status_code == 404
        assert answer.json()["details"][0]["reason"] == "METHOD_UNIMPLEMENTED"

    async def test_an_unknown_query_parameter(self, edge):
        answer = await edge.http.get("/v1/models?api_key=x", headers=edge.key)
        assert answer.status_code == 400
        assert "api_key" in answer.json()["message"]

    async def test_bad_base64_in_grpc_web(self, edge):
        headers = {**edge.key, "content-type": "application/grpc-web-text"}
        answer = await edge.http.post(QUERY, content="!!!!", headers=headers)
        assert answer.headers["grpc-status"] not in ("0", "2")

    @pytest.mark.parametrize(
        "path", ["/..%2f..%2f..%2fetc%2fpasswd", "/%2e%2e/envoy.yaml", "/assets/../../envoy.yaml"]
    )
    async def test_files_outside_the_page(self, edge, path):
        # Raw: a well-behaved client would resolve the dots itself.
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), 60)
        writer.close()
        assert b" 404 " in answer.split(b"\r\n", 1)[0]
        assert b"static_resources" not in answer


class TestPagesServedElsewhere:
    """Exact origins, and no cookies."""

    async def test_a_listed_origin_may_call(self, edge):
        asked = {"origin": ORIGIN, "access-control-request-method": "POST"}
        answer = await edge.http.options("/query", headers=asked)
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "access-control-allow-credentials" not in answer.headers

    @pytest.mark.parametrize(
        "origin",
        [
            "https://evil.example",
            "null",
            f"{ORIGIN}.evil.example",
            f"{ORIGIN}:8443",
            "http://app.example.com",
        ],
    )
    async def test_any_other_gets_no_leave_and_has_no_effect(self, edge, origin):
        asked = {"origin": origin, "access-control-request-method": "POST"}
        preflight = await edge.http.options("/query", headers=asked)
        call = await edge.http.post("/query", json={"query": "hi"}, headers={"origin": origin})
        for answer in (preflight, call):
            assert "access-control-allow-origin" not in answer.headers
        assert edge.peers.seen.metadata == []


async def test_the_access_log_holds_no_secret(edge):
    await edge.http.get(f"/v1/models?key={KEY}", headers={"authorization": f"Bearer {KEY}", "x-api-key": KEY})
    await wait_until(lambda: "/v1/models" in edge.log.read_text())
    log = edge.log.read_text()
    assert KEY not in log
    entry = next(line for line in map(json.loads, log.splitlines()) if line.get("path") == "/v1/models")
    assert entry["method"] == "GET"
    assert entry["request_id"]


async def test_a_flood_from_one_address_is_refused_and_leaves_another_alone(narrow_edge):
    # Who asks slowly gets room again meanwhile.
    for _ in range(1000):
        answer = await narrow_edge.http.get("/nothing.html")
        if answer.status_code == 429:
            break
    assert answer.status_code == 429
    assert answer.json()["details"][0]["reason"] == "RATE_LIMITED"
    elsewhere = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
    async with httpx.AsyncClient(transport=elsewhere, trust_env=False) as other:
        assert (await other.get(f"http://127.0.0.1:{narrow_edge.port}/healthz")).status_code == 200


def test_the_configuration_is_valid_whatever_the_values_are(tmp_path):
    """Values are data: none of them can add to the configuration's structure."""
    odd = tmp_path / 'a "quoted": {folder}, $HOME'
    odd.mkdir()
    edge = Edge(
        listen="[::1]:8080",
        router="router.internal:7101",
        session="session.internal:7102",
        llm_proxy="llm-proxy.internal:7104",
        llm_proxy_http="llm-proxy.internal:7105",
        descriptors=DEPLOY / "pointsman.binpb",
        static_files=odd,
        cors_origins=[ORIGIN, 'https://x"]}'],
        trusted_proxies=1,
    )
    configuration = tmp_path / "envoy.yaml"
    configuration.write_text(render((DEPLOY / "envoy.yaml").read_text(), edge))
    done = subprocess.run(
        [
            str(envoy_binary()),
            "--mode",
            "validate",
            "--config-path",
            str(configuration),
            "--log-level",
            "error",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
