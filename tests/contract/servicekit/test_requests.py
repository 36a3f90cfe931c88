"""Requests that are not what the proto says are refused, and the refusal names what is wrong."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure
from servicekit.limits import MESSAGE_LIMIT, METADATA_LIMIT
from servicekit.testing import Started

PATH = "/servicekit.test.v1.EchoService"


async def refusal(call: Any) -> tuple[grpc.StatusCode, Failure]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (call.read() if hasattr(call, "read") else call)
    return caught.value.code(), Failure.from_rpc_error(caught.value, "echo")


async def test_a_field_that_breaks_its_rule_is_named(kit: Any, echo: Any, repeat: Any) -> None:
    wrong = kit.Echo(text="far too long", tags=["ok", "x"], inner=kit.Echo(text="also too long"))
    async with kit.serve(Echo=echo, Repeat=repeat) as started:
        for method in ("Echo", "Repeat"):
            call = kit.callable(started.channel, method)(wrong, metadata=kit.caller, timeout=60)
            code, got = await refusal(call)
            assert (code, got.reason) == (
                grpc.StatusCode.INVALID_ARGUMENT,
                errors_pb2.ERROR_REASON_INVALID_FIELD,
            )
            assert [path for path, _ in got.fields] == ["text", "tags[1]", "inner.text"]
            assert got.message == "; ".join(f"{path}: {problem}" for path, problem in got.fields)


async def test_each_message_of_a_stream_of_requests_is_checked(kit: Any) -> None:
    seen = []

    async def gather(requests: AsyncIterator[Any], _context: Any) -> Any:
        seen.extend([request.text async for request in requests])
        return kit.Echo()

    async with kit.serve(Gather=gather) as started:
        gather_call = kit.callable(started.channel, "Gather")
        fine = [kit.Echo(text="one"), kit.Echo(text="two")]
        await gather_call(iter(fine), metadata=kit.caller, timeout=60)
        assert seen == ["one", "two"]
        _, got = await refusal(
            gather_call(iter([*fine, kit.Echo(text="x" * 11)]), metadata=kit.caller, timeout=60)
        )
        assert [path for path, _ in got.fields] == ["text"]


@pytest.mark.parametrize(
    "raw",
    [b"\x0a\x05cut", b"\xff" * 20, b"\x0a\x02\xff\xfe", b"\x1a" * 2, b"\x0b" * 2000],
    ids=["cut off", "noise", "no utf-8", "half a message", "deep"],
)
@pytest.mark.parametrize("method", ["Echo", "Repeat", "Gather"])
async def test_bytes_that_are_no_message_are_malformed(
    kit: Any, echo: Any, repeat: Any, method: str, raw: bytes
) -> None:
    async def gather(requests: AsyncIterator[Any], _context: Any) -> Any:
        return [request async for request in requests][-1]

    async with kit.serve(Echo=echo, Repeat=repeat, Gather=gather) as started:
        code, got = await refusal(raw_call(started, method, raw, kit.caller))
    assert (code, got.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        errors_pb2.ERROR_REASON_MALFORMED_REQUEST,
    )
    assert "Error" not in got.message


def raw_call(started: Started, method: str, raw: bytes, metadata: Any) -> Any:
    channel: Any = started.channel
    if method == "Gather":
        return channel.stream_unary(f"{PATH}/{method}")(iter([raw]), metadata=metadata, timeout=60)
    make = channel.unary_stream if method == "Repeat" else channel.unary_unary
    return make(f"{PATH}/{method}")(raw, metadata=metadata, timeout=60)


async def test_a_call_that_ends_without_its_message_gets_an_answer(kit: Any, echo: Any) -> None:
    async with kit.serve(Echo=echo) as started:
        code, got = await refusal(
            started.channel.stream_unary(f"{PATH}/Echo")(iter([]), metadata=kit.caller, timeout=60)
        )
    assert (code, got.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        errors_pb2.ERROR_REASON_MALFORMED_REQUEST,
    )


async def test_a_message_over_the_limit_is_refused_with_the_limit(kit: Any, echo: Any) -> None:
    async with kit.serve(Echo=echo) as started, grpc.aio.insecure_channel(started.server.address) as channel:
        call = channel.unary_unary(f"{PATH}/Echo", None, None)
        code, got = await refusal(call(b"\x0a" * (MESSAGE_LIMIT + 1), metadata=kit.caller, timeout=60))
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert got.reason == errors_pb2.ERROR_REASON_MESSAGE_TOO_LARGE
        assert got.metadata == {"limit": str(MESSAGE_LIMIT)}
        code, got = await refusal(call(b"\x0a" * 50_000_000, metadata=kit.caller, timeout=60))
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert got.reason == errors_pb2.ERROR_REASON_MESSAGE_TOO_LARGE


async def test_metadata_over_the_limit_is_refused_with_the_limit(kit: Any, echo: Any) -> None:
    async with kit.serve(Echo=echo) as started:
        call = kit.callable(started.channel, "Echo")
        padding = (("x-padding", "p" * 10_000),)
        assert await call(kit.Echo(), metadata=(*kit.caller, *padding), timeout=60) == kit.Echo()
        code, got = await refusal(call(kit.Echo(), metadata=(*kit.caller, *padding * 2), timeout=60))
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert got.reason == errors_pb2.ERROR_REASON_MESSAGE_TOO_LARGE
        assert got.metadata == {"limit": str(METADATA_LIMIT)}
