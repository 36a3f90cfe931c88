"""One port speaks gRPC, gRPC-Web, JSON, NDJSON and SSE, and serves files."""

from __future__ import annotations

import asyncio
import base64
import json

import grpc
import grpc.aio
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from pointsman.llm.v1 import model_service_pb2, model_service_pb2_grpc
from pointsman.router.v1 import router_service_pb2, router_service_pb2_grpc
from support.edge_peers import KEY, TOKENS

METADATA = [("authorization", f"Bearer {KEY}")]
QUERY = "/pointsman.router.v1.RouterService/Query"
RUN_TURN = "/pointsman.router.v1.RouterService/RunTurn"
SESSION = "00000000-0000-0000-0000-000000000000"


def framed(message: bytes) -> bytes:
    """One message as gRPC-Web sends it."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def frames(body: bytes) -> tuple[list[bytes], dict[str, str]]:
    """The messages of a gRPC-Web answer, and its trailers."""
    messages, trailers = [], {}
    while body:
        kind, size = body[0], int.from_bytes(body[1:5], "big")
        payload, body = body[5 : 5 + size], body[5 + size :]
        if kind & 0x80:
            trailers = dict(line.split(":", 1) for line in payload.decode().split("\r\n") if line)
        else:
            messages.append(payload)
    return messages, trailers


async def test_grpc_unary_goes_through(edge):
    stub = router_service_pb2_grpc.RouterServiceStub(edge.channel)
    answer = await stub.Query(router_service_pb2.QueryRequest(query="hi"), metadata=METADATA, timeout=60)
    assert answer.response == "acme: hi"


async def test_each_public_service_has_its_backend(edge):
    stub = model_service_pb2_grpc.ModelServiceStub(edge.channel)
    answer = await stub.ListModels(model_service_pb2.ListModelsRequest(), metadata=METADATA, timeout=60)
    assert [model.name for model in answer.models] == ["demo/offline"]


async def test_grpc_stream_goes_through(edge):
    stub = router_service_pb2_grpc.RouterServiceStub(edge.channel)
    call = stub.RunTurn(router_service_pb2.RunTurnRequest(prompt="go"), metadata=METADATA, timeout=60)
    assert [step.event.WhichOneof("kind") async for step in call] == ["text_delta"] * TOKENS + [
        "turn_finished"
    ]


@pytest.mark.parametrize("text", [False, True], ids=["binary", "text"])
async def test_grpc_web_stream_goes_through(edge, text):
    kind = "application/grpc-web-text" if text else "application/grpc-web+proto"
    sent = framed(router_service_pb2.RunTurnRequest(prompt="go").SerializeToString())
    answer = await edge.http.post(
        RUN_TURN,
        content=base64.b64encode(sent) if text else sent,
        headers={**edge.key, "content-type": kind, "accept": kind},
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(kind)
    body = answer.content
    if text:
        # Each chunk is padded by itself.
        body = b"".join(base64.b64decode(part + b"=" * (-len(part) % 4)) for part in body.split(b"=") if part)
    messages, trailers = frames(body)
    assert len(messages) == TOKENS + 1
    assert trailers["grpc-status"].strip() == "0"


async def test_json_is_transcoded_with_every_documented_field(edge):
    answer = await edge.http.post("/query", json={"query": "hi"}, headers=edge.key)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body["success"] is True
    assert body["response"] == "acme: hi"
    # Empty, and there all the same.
    assert body["session"] == ""
    assert body["requestId"] == answer.headers["x-request-id"]


async def test_a_json_stream_is_one_object_per_line(edge):
    answer = await edge.http.post("/v1/turns:run", json={"prompt": "a\nb"}, headers=edge.key)
    assert answer.headers["content-type"] == "application/x-ndjson"
    events = [json.loads(line)["event"] for line in answer.text.splitlines()]
    assert [event["textDelta"]["text"] for event in events[:TOKENS]] == [f"a\nb {n}" for n in range(TOKENS)]
    assert events[-1] == {"sequence": "1", "turnFinished": {"result": "done"}}


async def test_a_client_that_accepts_sse_gets_sse(edge):
    headers = {**edge.key, "accept": "text/event-stream"}
    answer = await edge.http.get(f"/v1/sessions/{SESSION}/events:watch?afterSequence=4", headers=headers)
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.text == 'data: {"event":{"sequence":"5","turnFinished":{"result":"done"}}}\n\n'


async def test_events_are_sent_as_they_happen(edge):
    request = edge.http.build_request("POST", "/v1/turns:run", json={"prompt": "wait"}, headers=edge.key)
    answer = await edge.http.send(request, stream=True)
    lines = answer.aiter_lines()
    assert "wait 0" in await asyncio.wait_for(anext(lines), 60)
    edge.peers.seen.go_on.set()
    assert len([line async for line in lines]) == TOKENS


async def test_the_messages_api_is_behind_llm(edge):
    answer = await edge.http.post("/llm/v1/messages?beta=true", headers={"x-api-key": KEY})
    assert answer.status_code == 200
    assert answer.json()["path"] == "/v1/messages?beta=true"


async def test_all_of_it_is_there_behind_tls(tls_edge):
    stub = router_service_pb2_grpc.RouterServiceStub(tls_edge.channel)
    answer = await stub.Query(router_service_pb2.QueryRequest(query="hi"), metadata=METADATA, timeout=60)
    assert answer.response == "acme: hi"
    as_json = await tls_edge.http.post("/query", json={"query": "hi"}, headers=tls_edge.key)
    assert as_json.json()["success"] is True
    with pytest.raises(httpx.TransportError):
        await httpx.AsyncClient(trust_env=False).get(f"http://localhost:{tls_edge.port}/healthz")


async def test_health_and_reflection_need_no_key(edge):
    health = health_pb2_grpc.HealthStub(edge.channel)
    answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=60)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    reflection = reflection_pb2_grpc.ServerReflectionStub(edge.channel)
    asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    async for listed in reflection.ServerReflectionInfo(asked, timeout=60):
        names = {service.name for service in listed.list_services_response.service}
        assert "pointsman.router.v1.RouterService" in names
    answer = await edge.http.get("/healthz")
    assert answer.json() == {"status": "healthy", "services": []}


async def test_the_page_is_served_with_a_strict_policy(edge):
    page = await edge.http.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-cache"
    assert page.headers["content-encoding"] == "gzip"
    assert "make web" in page.text
    style = await edge.http.get("/page.css")
    assert style.headers["content-type"] == "text/css; charset=utf-8"


async def test_a_service_that_is_down_is_a_typed_answer_everywhere(edge):
    await edge.peers.stop("session")
    answer = await edge.http.get(f"/v1/sessions/{SESSION}", headers=edge.key)
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["details"][0]["reason"] == "SERVICE_UNAVAILABLE"
    call = edge.channel.unary_unary("/pointsman.session.v1.SessionService/GetSession")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call(b"", metadata=METADATA, timeout=60)
    assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
