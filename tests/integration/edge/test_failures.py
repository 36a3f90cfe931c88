"""What the edge itself answers: with a reason, in the client's protocol."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from google.rpc import error_details_pb2, status_pb2
from pointsman.router.v1 import router_service_pb2, router_service_pb2_grpc
from pointsman.session.v1 import session_service_pb2, session_service_pb2_grpc
from pointsman_client import Unavailable
from pointsman_client.errors import from_rpc_error
from servicekit.testing import wait_until
from support.edge_peers import KEY

METADATA = [("authorization", f"Bearer {KEY}")]
SESSION = "sessions/00000000-0000-4000-8000-000000000001"
GET_SESSION = session_service_pb2.GetSessionRequest(name=SESSION)
# Pings every five seconds, five seconds for the answer, and a busy machine.
FROZEN_SECONDS = 14.0


def reason_of(error: grpc.aio.AioRpcError) -> tuple[str, int]:
    """Return the reason of a status and the seconds after which to retry; '' and 0 where it has none."""
    trailing: Any = error.trailing_metadata()
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    status = status_pb2.Status.FromString(dict(trailing).get("grpc-status-details-bin", b""))
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(retry)
    if status.details:
        assert (status.code, status.message) == (error.code().value[0], error.details())
    return info.reason, retry.retry_delay.seconds


def json_reason_of(answer: Any) -> tuple[str, str]:
    """Return the reason of a JSON error and its retry delay, with '' for none."""
    details = {detail["@type"].rpartition(".")[2]: detail for detail in answer.json()["details"]}
    return details["ErrorInfo"]["reason"], details.get("RetryInfo", {}).get("retryDelay", "")


class TestAServiceThatIsNotThere:
    """Every protocol gets the reason SERVICE_UNAVAILABLE and when to try again."""

    @pytest.mark.parametrize("stopped", ["session", "router"])
    async def test_by_grpc(self, edge, stopped):
        await edge.peers.stop(stopped)
        stub = session_service_pb2_grpc.SessionServiceStub(edge.channel)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.GetSession(GET_SESSION, metadata=METADATA, timeout=60)
        assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
        assert reason_of(raised.value) == ("SERVICE_UNAVAILABLE", 1)

    async def test_the_routers_own_services_by_grpc(self, edge):
        await edge.peers.stop("router")
        stub = router_service_pb2_grpc.RouterServiceStub(edge.channel)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.Query(router_service_pb2.QueryRequest(query="hi"), metadata=METADATA, timeout=60)
        assert reason_of(raised.value) == ("SERVICE_UNAVAILABLE", 1)

    @pytest.mark.parametrize("stopped", ["session", "router"])
    async def test_by_grpc_web(self, edge, stopped):
        await edge.peers.stop(stopped)
        headers = {**edge.key, "content-type": "application/grpc-web+proto"}
        path = "/pointsman.session.v1.SessionService/GetSession"
        body = GET_SESSION.SerializeToString()
        answer = await edge.http.post(
            path, content=b"\0" + len(body).to_bytes(4, "big") + body, headers=headers
        )
        assert answer.headers["grpc-status"] == "14"
        assert "grpc-status-details-bin" in answer.headers

    @pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
    @pytest.mark.parametrize("stopped", ["session", "router"])
    async def test_by_json(self, edge, stopped, accept):
        await edge.peers.stop(stopped)
        for path in (f"/v1/{SESSION}", f"/v1/{SESSION}/events:watch"):
            answer = await edge.http.get(path, headers={**edge.key, "accept": accept})
            assert answer.status_code == 503
            assert json_reason_of(answer) == ("SERVICE_UNAVAILABLE", "1s")
            assert answer.headers["retry-after"] == "1"

    async def test_the_messages_api(self, edge):
        await edge.peers.stop("router")
        assert_overloaded(await edge.http.post("/llm/v1/messages", headers=edge.key))

    async def test_headers_that_are_too_large_for_the_messages_api(self, edge):
        headers = {**edge.key, "x-large": "x" * 100_000}
        answer = await edge.http.post("/llm/v1/messages", headers=headers)
        assert answer.status_code == 431
        # Envoy refuses them before it knows the path.
        assert answer.json().get("error", answer.json())["message"].startswith("The headers are larger")


def assert_overloaded(answer: Any) -> None:
    """The answer is an error of Anthropic's API that is worth a retry."""
    assert answer.status_code == 503
    assert answer.json()["error"]["type"] == "overloaded_error"
    assert answer.headers["request-id"] == answer.json()["request_id"]
    assert answer.headers["retry-after"] == "1"
    assert "x-should-retry" not in answer.headers


class TestLimits:
    """Of HTTP itself."""

    async def test_too_many_headers(self, edge):
        many = {f"x-header-{number}": "x" for number in range(1100)}
        answer = await edge.http.get("/v1/models", headers={**edge.key, **many})
        assert answer.status_code == 431
        assert json_reason_of(answer)[0] == "MESSAGE_TOO_LARGE"

    async def test_a_header_that_is_too_large(self, edge):
        answer = await edge.http.get("/v1/models", headers={**edge.key, "x-large": "x" * 100_000})
        assert answer.status_code == 431
        assert json_reason_of(answer)[0] == "MESSAGE_TOO_LARGE"

    @pytest.mark.parametrize("size", [20_000, 50_000])
    async def test_metadata_that_is_too_large(self, edge, size):
        stub = session_service_pb2_grpc.SessionServiceStub(edge.channel)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.GetSession(GET_SESSION, metadata=[*METADATA, ("x-large", "x" * size)], timeout=60)
        assert reason_of(raised.value)[0] == "MESSAGE_TOO_LARGE"

    async def test_too_much_metadata_by_grpc(self, edge):
        stub = session_service_pb2_grpc.SessionServiceStub(edge.channel)
        many = [(f"x-header-{number}", "x" * 50) for number in range(400)]
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.GetSession(GET_SESSION, metadata=[*METADATA, *many], timeout=60)
        assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert reason_of(raised.value)[0] == "MESSAGE_TOO_LARGE"

    async def test_a_flood_by_grpc(self, narrow_edge):
        stub = session_service_pb2_grpc.SessionServiceStub(narrow_edge.channel)
        reasons = set()
        for _ in range(60):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await stub.GetSession(GET_SESSION, metadata=METADATA, timeout=60)
            reasons.add(reason_of(raised.value))
        assert reasons == {("SESSION_NOT_FOUND", 0), ("RATE_LIMITED", 1)}

    async def test_a_deadline_that_is_none(self, edge):
        headers = {**edge.key, "content-type": "application/grpc-web+proto", "grpc-timeout": "soon"}
        answer = await edge.http.post("/pointsman.session.v1.SessionService/GetSession", headers=headers)
        raw = base64.b64decode(answer.headers["grpc-status-details-bin"] + "==")
        info = error_details_pb2.ErrorInfo()
        status = status_pb2.Status.FromString(raw)
        assert status.details[0].Unpack(info)
        # Browsers' clients go by this code, not by `grpc-status`, which Envoy sets itself for gRPC-Web.
        assert (status.code, info.reason) == (3, "MALFORMED_REQUEST")


class TestAFrozenService:
    """It keeps its connections open and says nothing; clients are told within a bound."""

    async def test_a_call_ends_typed(self, freezable_edge):
        freezable_edge.forwarders["session"].freeze()
        stub = session_service_pb2_grpc.SessionServiceStub(freezable_edge.channel)
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await stub.GetSession(GET_SESSION, metadata=METADATA, timeout=60)
            assert reason_of(raised.value) == ("SERVICE_UNAVAILABLE", 1)
            assert time.monotonic() - began < FROZEN_SECONDS

    async def test_an_open_stream_ends(self, freezable_edge):
        stub = router_service_pb2_grpc.RouterServiceStub(freezable_edge.channel)
        request = router_service_pb2.RunTurnRequest(prompt="wait")
        call = stub.RunTurn(request, metadata=METADATA, timeout=60)
        await call.read()
        freezable_edge.forwarders["router"].freeze()
        began = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()
        # HTTP/2 has only a reset for a stream that has begun; the client library types it.
        error = from_rpc_error(raised.value)
        assert (type(error), error.reason) == (Unavailable, "SERVICE_UNAVAILABLE")
        assert time.monotonic() - began < FROZEN_SECONDS

    async def test_a_quiet_stream_lives_through_many_pings(self, freezable_edge):
        stub = router_service_pb2_grpc.RouterServiceStub(freezable_edge.channel)
        call = stub.RunTurn(router_service_pb2.RunTurnRequest(prompt="wait"), metadata=METADATA, timeout=60)
        began = time.monotonic()
        freezable_edge.peers.seen.quiet_seconds = 2 * FROZEN_SECONDS
        freezable_edge.peers.seen.go_on.set()
        *_, last = [response async for response in call]
        assert last.event.turn_finished.result == "done"
        assert time.monotonic() - began > FROZEN_SECONDS

    async def test_a_short_pause_loses_nothing(self, freezable_edge):
        stub = session_service_pb2_grpc.SessionServiceStub(freezable_edge.channel)
        freezable_edge.forwarders["session"].freeze()
        call = stub.GetSession(GET_SESSION, metadata=METADATA, timeout=60)
        done, _ = await asyncio.wait([asyncio.ensure_future(_ended(call))], timeout=2)
        assert not done
        freezable_edge.forwarders["session"].thaw()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call
        assert reason_of(raised.value)[0] == "SESSION_NOT_FOUND"

    async def test_the_messages_api(self, freezable_edge):
        freezable_edge.forwarders["llm_proxy_http"].freeze()
        answers: list[httpx.Response] = []

        async def refused() -> bool:
            with contextlib.suppress(httpx.ReadTimeout):
                answers.append(
                    await freezable_edge.http.post("/llm/v1/messages", headers=freezable_edge.key, timeout=1)
                )
            return bool(answers)

        await wait_until(refused, timeout=FROZEN_SECONDS + 3)
        assert_overloaded(answers[0])


async def _ended(call: Any) -> None:
    with contextlib.suppress(grpc.aio.AioRpcError):
        await call
