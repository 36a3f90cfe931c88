"""What every call leaves behind: its id for the caller, one line in the log, one more in the numbers."""

import asyncio
import io
import json
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
import structlog
from pointsman.errors.v1 import errors_pb2
from servicekit import logs
from servicekit.context import account_of, current_request_id, log_fields
from servicekit.errors import Failure
from servicekit.http.metrics_endpoint import metrics_endpoint
from servicekit.testing import passport_metadata, wait_until


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure("echo", "info")
    yield stream
    structlog.reset_defaults()


def calls(stderr: io.StringIO) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in stderr.getvalue().splitlines()]
    return [line for line in lines if line["event"] == "call"]


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as response:
        page: bytes = response.read()
    return page.decode()


@pytest.mark.parametrize("sent", ["r-1", "0af76519-16cd-43dd-8448-eb211c80319c", "A.b:c_d"])
async def test_a_sane_request_id_is_kept_and_sent_back(kit: Any, repeat: Any, sent: str) -> None:
    seen = []

    async def look(request: Any, _context: Any) -> Any:
        seen.append(current_request_id())
        return request

    async with kit.serve(Echo=look, Repeat=repeat) as started:
        metadata = passport_metadata(kit.keys.signer("router"), request_id=sent)
        unary = kit.callable(started.channel, "Echo")(kit.Echo(), metadata=metadata, timeout=60)
        await unary
        stream = kit.callable(started.channel, "Repeat")(kit.Echo(), metadata=metadata, timeout=60)
        assert [item async for item in stream] == [kit.Echo()] * 3
        for call in (unary, stream):
            assert dict(await call.initial_metadata())["x-request-id"] == sent
    assert seen == [sent]


@pytest.mark.parametrize(
    "sent",
    [(), ("",), ("a" * 129,), ('x","level":"forged',), ("a b",), ("one", "two")],
    ids=["none", "empty", "long", "forging", "space", "two"],
)
async def test_any_other_request_id_is_replaced(kit: Any, echo: Any, sent: tuple[str, ...]) -> None:
    async with kit.serve(Echo=echo) as started:
        metadata = (kit.caller[0], *(("x-request-id", value) for value in sent))
        call = kit.callable(started.channel, "Echo")(kit.Echo(), metadata=metadata, timeout=60)
        await call
        got = dict(await call.initial_metadata())["x-request-id"]
    assert len(got) == 36
    assert got not in sent


async def test_a_call_has_one_line_with_its_fields_and_no_secret(kit: Any, stderr: io.StringIO) -> None:
    async def work(request: Any, _context: Any) -> Any:
        account_of("Team-1")
        log_fields(session="s-1", turn="t-1")
        return request

    async with kit.serve(Echo=work) as started:
        metadata = (*kit.caller, ("authorization", "Bearer hunter2-the-key"))
        await kit.callable(started.channel, "Echo")(kit.Echo(text="private"), metadata=metadata, timeout=60)
        await wait_until(lambda: len(calls(stderr)) == 1)
    (line,) = calls(stderr)
    assert line.pop("duration_ms") >= 0
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "call",
        "service": "echo",
        "level": "info",
        "method": "servicekit.test.v1.EchoService/Echo",
        "code": "OK",
        "request_id": "test-request",
        "tenant": "acme",
        "account": "team-1",
        "session": "s-1",
        "turn": "t-1",
    }
    everything = stderr.getvalue()
    assert "hunter2" not in everything
    assert "private" not in everything
    assert kit.caller[0][1] not in everything


async def test_a_failed_call_has_its_reason_in_the_line(kit: Any, stderr: io.StringIO) -> None:
    async def refuse(_request: Any, _context: Any) -> Any:
        raise Failure(errors_pb2.ERROR_REASON_QUEUE_FULL, "Full.")

    async with kit.serve(Echo=refuse) as started:
        for metadata in (kit.caller, ()):
            with pytest.raises(grpc.aio.AioRpcError):
                await kit.callable(started.channel, "Echo")(kit.Echo(), metadata=metadata, timeout=60)
        await wait_until(lambda: len(calls(stderr)) == 2)
    assert [(line["code"], line["reason"]) for line in calls(stderr)] == [
        ("RESOURCE_EXHAUSTED", "QUEUE_FULL"),
        ("UNAUTHENTICATED", "PASSPORT_INVALID"),
    ]


async def test_a_fault_of_ours_has_its_traceback_in_the_line(kit: Any, stderr: io.StringIO) -> None:
    async def fail(_request: Any, _context: Any) -> Any:
        raise KeyError("lost")

    async with kit.serve(Echo=fail) as started:
        with pytest.raises(grpc.aio.AioRpcError):
            await kit.callable(started.channel, "Echo")(kit.Echo(), metadata=kit.caller, timeout=60)
        await wait_until(lambda: len(calls(stderr)) == 1)
    (line,) = calls(stderr)
    assert (line["level"], line["reason"]) == ("error", "INTERNAL")
    assert "KeyError: 'lost'" in line["exception"]


async def test_a_key_in_a_url_is_in_no_line_and_no_answer(kit: Any, echo: Any, stderr: io.StringIO) -> None:
    async with kit.serve(Echo=echo) as started:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await started.channel.unary_unary("/made.up/Name?key=secret")(b"", timeout=60)
        await wait_until(lambda: len(calls(stderr)) == 1)
    assert "secret" not in stderr.getvalue() + str(refused.value.details())


async def test_calls_are_counted_by_code_and_made_up_names_are_not_kept(kit: Any, echo: Any) -> None:
    async with kit.serve(Echo=echo) as started:
        await kit.callable(started.channel, "Echo")(kit.Echo(), metadata=kit.caller, timeout=60)
        with pytest.raises(grpc.aio.AioRpcError):
            await started.channel.unary_unary("/made.up/Name")(b"", timeout=60)
    with metrics_endpoint("127.0.0.1:0") as port:
        page = await asyncio.to_thread(fetch, f"http://127.0.0.1:{port}/metrics")
    counted = 'pointsman_calls_total{code="OK",method="Echo",service="servicekit.test.v1.EchoService"}'
    assert counted in page
    assert 'pointsman_calls_total{code="UNIMPLEMENTED",method="unknown",service="unknown"}' in page
    assert "made.up" not in page
    assert "pointsman_call_seconds_bucket" in page
