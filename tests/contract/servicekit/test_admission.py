"""Who gets in: the passport, and the table of who may call what."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pointsman.errors.v1 import errors_pb2
from servicekit.access import Access
from servicekit.channels import served_metadata
from servicekit.context import current_passport
from servicekit.errors import Failure
from servicekit.passport import PASSPORT_HEADER, Passport
from servicekit.testing import passport_metadata, serve, test_keys


async def refusal(call: Any) -> Failure:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    failure = Failure.from_rpc_error(caught.value, "echo")
    assert caught.value.code() == failure.code
    return failure


async def test_the_servicer_sees_who_calls(kit: Any) -> None:
    seen = []

    async def look(request: Any, _context: Any) -> Any:
        seen.append(current_passport())
        return request

    async with kit.serve(Echo=look) as started:
        metadata = passport_metadata(
            kit.keys.signer("router"), tenant="acme", account="team-1", principal="alice", scopes={"read"}
        )
        await kit.callable(started.channel, "Echo")(kit.Echo(), metadata=metadata, timeout=60)
    assert seen == [Passport("acme", "team-1", "alice", frozenset({"read"}), "key-1")]


@pytest.mark.parametrize("case", ["none", "two", "garbage", "expired", "foreign key", "not a service"])
async def test_a_call_without_one_valid_passport_is_refused_before_its_message_is_read(
    kit: Any, echo: Any, tmp_path: Path, case: str
) -> None:
    foreign = test_keys(tmp_path / "foreign")
    test_keys(tmp_path, ["ci"])
    fine = kit.caller[0]
    metadata = {
        "none": (),
        "two": (fine, fine),
        "garbage": ((PASSPORT_HEADER, "garbage"),),
        "expired": passport_metadata(kit.keys.signer("router"), ttl=timedelta(seconds=-60)),
        "foreign key": passport_metadata(foreign.signer("router")),
        "not a service": passport_metadata(kit.keys.signer("ci"), scopes={"internal"}),
    }[case]
    async with kit.serve(Access.INTERNAL if case == "not a service" else Access.PUBLIC, Echo=echo) as started:
        raw = started.channel.unary_unary("/servicekit.test.v1.EchoService/Echo")
        failure = await refusal(raw(b"\xff not a message", metadata=metadata, timeout=60))
    assert failure.reason == errors_pb2.ERROR_REASON_PASSPORT_INVALID
    assert failure.code == grpc.StatusCode.UNAUTHENTICATED


async def test_an_internal_method_takes_services_and_no_callers(kit: Any, echo: Any) -> None:
    async with kit.serve(Access.INTERNAL, Echo=echo) as started:
        call = kit.callable(started.channel, "Echo")
        service = passport_metadata(kit.keys.signer("session"), scopes={"internal"})
        assert await call(kit.Echo(text="hi"), metadata=service, timeout=60) == kit.Echo(text="hi")
        failure = await refusal(call(kit.Echo(), metadata=kit.caller, timeout=60))
    assert failure.reason == errors_pb2.ERROR_REASON_SCOPE_MISSING
    assert failure.metadata == {"required": "internal"}


async def test_a_service_that_is_in_no_row_is_refused_even_to_services(kit: Any, echo: Any) -> None:
    async with serve(kit.servicer(Echo=echo), keys=kit.keys) as started:
        metadata = passport_metadata(kit.keys.signer("session"), scopes={"internal"})
        call = kit.callable(started.channel, "Echo")(kit.Echo(), metadata=metadata, timeout=60)
        assert (await refusal(call)).reason == errors_pb2.ERROR_REASON_SCOPE_MISSING


async def test_an_open_service_needs_no_passport_and_minds_no_bad_one(kit: Any) -> None:
    async with serve(keys=kit.keys) as started:
        stub = health_pb2_grpc.HealthStub(started.channel)
        for metadata in ((), ((PASSPORT_HEADER, "garbage"),)):
            answer = await stub.Check(health_pb2.HealthCheckRequest(), metadata=metadata, timeout=60)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_call_made_while_serving_another_goes_for_the_same_caller(kit: Any) -> None:
    seen = []

    async def look(request: Any, context: Any) -> Any:
        sent = dict(context.invocation_metadata())
        seen.append((current_passport(), sent["x-request-id"]))
        return request

    async def look_stream(request: Any, context: Any) -> Any:
        yield await look(request, context)

    behind_access = {"Echo": look, "Repeat": look_stream}
    signer = kit.keys.signer("session")
    async with kit.serve(Access.INTERNAL, signer=signer, **behind_access) as behind:

        async def ask_behind(request: Any, _context: Any) -> Any:
            # Streams say it themselves.
            repeat = kit.callable(behind.channel, "Repeat")
            async for _ in repeat(request, metadata=served_metadata(signer), timeout=60):
                pass
            return await kit.callable(behind.channel, "Echo")(request, timeout=60)

        async with kit.serve(Echo=ask_behind) as front:
            metadata = passport_metadata(kit.keys.signer("router"), account="team-1", request_id="r-1")
            await kit.callable(front.channel, "Echo")(kit.Echo(), metadata=metadata, timeout=60)
        expected = (Passport("acme", "team-1", "tester", frozenset({"internal"})), "r-1")
        assert seen == [expected, expected]

        failure = await refusal(kit.callable(behind.channel, "Echo")(kit.Echo(), timeout=60))
        assert failure.reason == errors_pb2.ERROR_REASON_PASSPORT_INVALID
