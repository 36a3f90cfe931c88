"""The end of a server, announced and in order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from pointsman.errors.v1 import errors_pb2
from servicekit.access import Access
from servicekit.config import ConfigError
from servicekit.drain import Drain
from servicekit.errors import Failure
from servicekit.serving import serving
from servicekit.testing import serve

HEALTH = health_pb2.HealthCheckResponse


async def endless(item: str, closed: asyncio.Event) -> AsyncIterator[str]:
    try:
        yield item
        await asyncio.Event().wait()
    finally:
        closed.set()


async def test_health_names_the_services_and_flips_with_the_drain(kit: Any, echo: Any) -> None:
    async with kit.serve(Echo=echo) as started:
        stub = health_pb2_grpc.HealthStub(started.channel)
        for service in ("", "servicekit.test.v1.EchoService"):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=60)
            assert answer.status == HEALTH.SERVING
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == HEALTH.SERVING
        started.drain.start()
        assert (await watch.read()).status == HEALTH.NOT_SERVING
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=60)
        assert answer.status == HEALTH.NOT_SERVING


async def test_health_of_an_unknown_service_is_as_the_protocol_has_it(kit: Any) -> None:
    async with serve(keys=kit.keys) as started:
        stub = health_pb2_grpc.HealthStub(started.channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(health_pb2.HealthCheckRequest(service="none"), timeout=60)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="none"))
        assert (await watch.read()).status == HEALTH.SERVICE_UNKNOWN


async def test_watchers_and_long_streams_do_not_hold_up_the_end(kit: Any) -> None:
    closed = asyncio.Event()
    drains: list[Drain] = []

    async def stream(request: Any, _context: Any) -> AsyncIterator[Any]:
        async for _ in drains[0].race(endless("x", closed)):
            yield request

    # Longer than the test may take: were anybody to wait for the grace, the timeout would tell.
    async with asyncio.timeout(60):
        async with kit.serve(Repeat=stream, grace=600) as started:
            drains.append(started.drain)
            call = kit.callable(started.channel, "Repeat")(kit.Echo(), metadata=kit.caller)
            await call.read()
            stub = health_pb2_grpc.HealthStub(started.channel)
            watches = [stub.Watch(health_pb2.HealthCheckRequest(service=name)) for name in ("", "none")]
            for watch in watches:
                await watch.read()
            started.drain.start()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
    assert closed.is_set()
    got = Failure.from_rpc_error(caught.value, "echo")
    assert got.reason == errors_pb2.ERROR_REASON_SERVICE_DRAINING
    assert got.retry_after is not None


async def test_a_call_that_runs_is_finished_within_the_grace(kit: Any) -> None:
    running = asyncio.Event()
    drain = Drain()

    async def slow(request: Any, _context: Any) -> Any:
        running.set()
        await drain.started.wait()
        return request

    async with asyncio.timeout(60), AsyncExitStack() as later:
        async with serving(
            service="echo",
            address="127.0.0.1:0",
            servicers=[kit.servicer(Echo=slow)],
            verifier=kit.keys.verifier,
            drain=drain,
            access={kit.descriptor.full_name: Access.PUBLIC},
        ) as server:
            channel = await later.enter_async_context(grpc.aio.insecure_channel(server.address))
            call = kit.callable(channel, "Echo")(kit.Echo(text="hi"), metadata=kit.caller, timeout=60)
            await running.wait()
        assert await call == kit.Echo(text="hi")


async def test_a_raced_stream_ends_by_itself_or_with_the_drain_and_is_closed() -> None:
    async def three() -> AsyncIterator[int]:
        for number in range(3):
            yield number

    drain = Drain()
    assert [number async for number in drain.race(three())] == [0, 1, 2]

    closed = asyncio.Event()
    got = []
    with pytest.raises(Failure) as caught:
        async for item in drain.race(endless("x", closed)):
            got.append(item)
            drain.start()
    assert got == ["x"]
    assert caught.value.reason == errors_pb2.ERROR_REASON_SERVICE_DRAINING
    assert closed.is_set()
    with pytest.raises(Failure):
        drain.check()


async def test_a_drain_interrupts_only_the_wait_for_an_item() -> None:
    drain, closed = Drain(), asyncio.Event()
    waiting, working = drain.race(endless("x", closed)), drain.race(endless("y", asyncio.Event()))
    assert [await anext(waiting), await anext(working)] == ["x", "y"]
    next_item = asyncio.ensure_future(anext(waiting))
    await asyncio.sleep(0)
    drain.start()
    # What is done with an item goes on, and can still be waited for.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    for raced in (next_item, asyncio.ensure_future(anext(working))):
        with pytest.raises(Failure) as caught:
            await raced
        assert caught.value.reason == errors_pb2.ERROR_REASON_SERVICE_DRAINING
    assert closed.is_set()


async def test_a_stream_that_is_over_ends_as_it_would_although_the_drain_has_started() -> None:
    async def one() -> AsyncIterator[str]:
        yield "last"

    drain = Drain()
    got = []
    async for item in drain.race(one()):
        got.append(item)
        drain.start()
    assert got == ["last"]


async def test_who_is_cancelled_in_a_drain_is_cancelled() -> None:
    drain, closed = Drain(), asyncio.Event()
    raced = drain.race(endless("x", closed))
    assert await anext(raced) == "x"
    next_item = asyncio.ensure_future(anext(raced))
    await asyncio.sleep(0)
    drain.start()
    await asyncio.sleep(0)
    next_item.cancel()
    with pytest.raises(asyncio.CancelledError):
        await next_item
    assert closed.is_set()


async def test_an_item_that_is_ready_when_the_drain_starts_is_still_given_out() -> None:
    drain, ready = Drain(), asyncio.Event()

    async def one() -> AsyncIterator[str]:
        await ready.wait()
        yield "last"
        await asyncio.Event().wait()

    raced = drain.race(one())
    next_item = asyncio.ensure_future(anext(raced))
    await asyncio.sleep(0)
    ready.set()
    drain.start()
    assert await next_item == "last"
    with pytest.raises(Failure):
        await anext(raced)


async def test_reflection_lists_what_is_served(kit: Any, echo: Any) -> None:
    async with kit.serve(Echo=echo) as started:
        stub = reflection_pb2_grpc.ServerReflectionStub(started.channel)
        asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
        answers = [answer async for answer in stub.ServerReflectionInfo(iter(asked), timeout=60)]
    names = {service.name for service in answers[0].list_services_response.service}
    assert {"servicekit.test.v1.EchoService", "grpc.health.v1.Health"} <= names


async def test_an_address_that_is_taken_is_named(kit: Any) -> None:
    async with serve(keys=kit.keys) as started:
        with pytest.raises(ConfigError, match=started.server.address):
            async with serving(
                service="echo",
                address=started.server.address,
                servicers=[],
                verifier=kit.keys.verifier,
                drain=Drain(),
            ):
                pass


async def test_a_unix_socket_serves_as_well(kit: Any, tmp_path: Any) -> None:
    address = f"unix:{tmp_path}/s"
    async with serving(
        service="echo", address=address, servicers=[], verifier=kit.keys.verifier, drain=Drain()
    ) as server:
        assert (server.address, server.port) == (address, 0)
        async with grpc.aio.insecure_channel(server.address) as channel:
            answer = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=60
            )
    assert answer.status == HEALTH.SERVING
