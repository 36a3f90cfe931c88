"""gRPC tries again by itself where that is harmless, and nowhere else."""

from typing import Any

import grpc
import grpc.aio
import pytest
from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure


class Flaky:
    """Unavailable a number of times, then well."""

    def __init__(self, failures: int) -> None:
        self.left = failures
        self.calls = 0

    async def __call__(self, request: Any, _context: Any) -> Any:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise Failure(errors_pb2.ERROR_REASON_DATABASE_UNAVAILABLE, "Not now.")
        return request


async def test_an_idempotent_method_is_tried_again(kit: Any) -> None:
    flaky = Flaky(2)
    async with kit.serve(GetEcho=flaky) as started:
        call = kit.callable(started.channel, "GetEcho")
        assert await call(kit.Echo(text="hi"), metadata=kit.caller, timeout=60) == kit.Echo(text="hi")
    assert flaky.calls == 3


async def test_trying_again_ends_with_the_last_failure(kit: Any) -> None:
    flaky = Flaky(100)
    async with kit.serve(GetEcho=flaky) as started:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await kit.callable(started.channel, "GetEcho")(kit.Echo(), metadata=kit.caller, timeout=60)
    assert flaky.calls == 4
    got = Failure.from_rpc_error(caught.value, "echo")
    assert got.reason == errors_pb2.ERROR_REASON_DATABASE_UNAVAILABLE


async def test_any_other_method_is_called_once(kit: Any) -> None:
    flaky = Flaky(1)
    async with kit.serve(Echo=flaky) as started:
        with pytest.raises(grpc.aio.AioRpcError):
            await kit.callable(started.channel, "Echo")(kit.Echo(), metadata=kit.caller, timeout=60)
    assert flaky.calls == 1
