"""Compressed gRPC messages: what they become is bounded, and other calls go on."""

from __future__ import annotations

from typing import Any

import grpc.aio
import pytest

MEBIBYTE = 1024 * 1024


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_a_message_that_inflates_beyond_the_limit_is_refused(
    kit: Any, echo: Any, compression: grpc.Compression
) -> None:
    bomb = bytes(64 * MEBIBYTE)
    options = [("grpc.max_send_message_length", -1)]
    async with (
        kit.serve(Echo=echo) as started,
        grpc.aio.insecure_channel(
            started.server.address, options=options, compression=compression
        ) as channel,
    ):
        call = channel.unary_unary("/servicekit.test.v1.EchoService/Echo", None, None)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(bomb, metadata=kit.caller, timeout=60)
        await kit.callable(started.channel, "Echo")(kit.Echo(), metadata=kit.caller, timeout=60)
    # gRPC stops at the limit while it inflates; read whole, the message would be malformed instead.
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_compressed_message_within_the_limit_is_read(kit: Any, echo: Any) -> None:
    async with kit.serve(Echo=echo) as started:
        call = kit.callable(started.channel, "Echo")
        await call(kit.Echo(), metadata=kit.caller, timeout=60, compression=grpc.Compression.Gzip)
