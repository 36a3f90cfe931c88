"""Whatever goes wrong in a servicer, the caller gets a code, a reason and a message of ours."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc
import grpc.aio
import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import session_service_pb2, session_service_pb2_grpc
from servicekit.errors import CODES, Failure, reason_name
from servicekit.limits import MESSAGE_LIMIT
from servicekit.serving import Servicer
from servicekit.testing import serve, wait_until
from structlog.testing import capture_logs


async def failure_of(call: Any) -> tuple[grpc.StatusCode, Failure]:
    """The status and the failure that a call, unary or stream, ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    return caught.value.code(), Failure.from_rpc_error(caught.value, "echo")


@pytest.mark.parametrize("method", ["Echo", "Repeat", "Gather"])
async def test_every_reason_reaches_the_caller_whole(kit: Any, method: str) -> None:
    wanted: dict[str, str] = {}

    def sent(reason: errors_pb2.ErrorReason.ValueType) -> Failure:
        return Failure(
            reason,
            f"{reason_name(reason)}: schön 満員",
            fields=[("text", "是")],
            retry_after=timedelta(seconds=1.5),
            limit="10",
        )

    async def unary(request: Any, _context: Any) -> Any:
        raise sent(errors_pb2.ErrorReason.Value("ERROR_REASON_" + wanted["reason"]))

    async def stream(request: Any, _context: Any) -> AsyncIterator[Any]:
        yield request
        raise sent(errors_pb2.ErrorReason.Value("ERROR_REASON_" + wanted["reason"]))

    async with kit.serve(Echo=unary, Gather=unary, Repeat=stream) as started:
        call = kit.callable(started.channel, method)
        for reason in CODES:
            wanted["reason"] = reason_name(reason)
            request = [kit.Echo()] if method == "Gather" else kit.Echo()
            code, got = await failure_of(
                call(iter(request) if method == "Gather" else request, metadata=kit.caller, timeout=60)
            )
            expected = sent(reason)
            assert code == CODES[reason]
            assert (got.reason, got.message, got.fields) == (reason, expected.message, expected.fields)
            assert (got.retry_after, got.metadata) == (expected.retry_after, expected.metadata)


@pytest.mark.parametrize("method", ["Echo", "Repeat"])
async def test_a_fault_of_ours_is_internal_and_its_traceback_is_only_in_the_log(
    kit: Any, method: str
) -> None:
    async def unary(_request: Any, _context: Any) -> Any:
        raise KeyError("the private detail")

    async def stream(request: Any, _context: Any) -> AsyncIterator[Any]:
        yield request
        raise KeyError("the private detail")

    async with kit.serve(Echo=unary, Repeat=stream) as started:
        with capture_logs() as logged:
            call = kit.callable(started.channel, method)(kit.Echo(), metadata=kit.caller, timeout=60)
            code, got = await failure_of(call)
            await wait_until(lambda: any(line["event"] == "call" for line in logged))
    assert (code, got.reason) == (grpc.StatusCode.INTERNAL, errors_pb2.ERROR_REASON_INTERNAL)
    assert got.metadata == {"request_id": "test-request"}
    assert "KeyError" not in got.message
    assert "private" not in got.message
    (line,) = [line for line in logged if line["event"] == "call"]
    assert isinstance(line["exc_info"], KeyError)
    assert line["request_id"] == "test-request"


async def test_an_answer_of_the_wrong_type_is_internal(kit: Any) -> None:
    async def unary(_request: Any, _context: Any) -> Any:
        return {"not": "a message"}

    async with kit.serve(Echo=unary) as started:
        call = kit.callable(started.channel, "Echo")(kit.Echo(), metadata=kit.caller, timeout=60)
        code, got = await failure_of(call)
    assert (code, got.reason) == (grpc.StatusCode.INTERNAL, errors_pb2.ERROR_REASON_INTERNAL)
    assert "dict" not in got.message


async def test_a_method_that_does_not_exist_is_unimplemented(kit: Any, echo: Any) -> None:
    async with kit.serve(Echo=echo) as started:
        for call in (
            kit.callable(started.channel, "GetEcho")(kit.Echo(), metadata=kit.caller, timeout=60),
            started.channel.unary_unary("/no.such.v1.Service/Method")(b"", timeout=60),
            started.channel.unary_stream("/no.such.v1.Service/Method")(b"", timeout=60),
        ):
            code, got = await failure_of(call)
            assert code == grpc.StatusCode.UNIMPLEMENTED
            assert got.reason == errors_pb2.ERROR_REASON_METHOD_UNIMPLEMENTED


async def test_a_method_that_nobody_wrote_is_unimplemented(kit: Any) -> None:
    class Empty(session_service_pb2_grpc.SessionServiceServicer):
        pass

    servicer = Servicer(
        add=session_service_pb2_grpc.add_SessionServiceServicer_to_server,
        instance=Empty(),
        descriptor=session_service_pb2.DESCRIPTOR.services_by_name["SessionService"],
    )
    async with serve(servicer, keys=kit.keys) as started:
        stub = session_service_pb2_grpc.SessionServiceStub(started.channel)
        name = "sessions/00000000-0000-4000-8000-000000000000"
        for call in (
            stub.GetSession(
                session_service_pb2.GetSessionRequest(name=name), metadata=kit.caller, timeout=60
            ),
            stub.WatchEvents(
                session_service_pb2.WatchEventsRequest(session=name), metadata=kit.caller, timeout=60
            ),
        ):
            code, got = await failure_of(call)
            assert code == grpc.StatusCode.UNIMPLEMENTED
            assert got.reason == errors_pb2.ERROR_REASON_METHOD_UNIMPLEMENTED


async def test_our_own_not_implemented_error_is_a_fault(kit: Any) -> None:
    async def unary(_request: Any, _context: Any) -> Any:
        raise NotImplementedError

    async with kit.serve(Echo=unary) as started:
        call = kit.callable(started.channel, "Echo")(kit.Echo(), metadata=kit.caller, timeout=60)
        _, got = await failure_of(call)
    assert got.reason == errors_pb2.ERROR_REASON_INTERNAL


async def test_a_peers_failure_passes_through_with_its_details(kit: Any) -> None:
    async def refuse(_request: Any, _context: Any) -> Any:
        raise Failure(errors_pb2.ERROR_REASON_QUEUE_FULL, "Full.", limit="10")

    async with kit.serve(Echo=refuse) as behind:

        async def ask_behind(request: Any, _context: Any) -> Any:
            return await kit.callable(behind.channel, "Echo")(request, metadata=kit.caller, timeout=60)

        async with kit.serve(Echo=ask_behind) as front:
            call = kit.callable(front.channel, "Echo")(kit.Echo(), metadata=kit.caller, timeout=60)
            _, got = await failure_of(call)
    assert (got.reason, got.message) == (errors_pb2.ERROR_REASON_QUEUE_FULL, "Full.")
    assert got.metadata == {"limit": "10"}


async def test_a_cancellation_that_leaks_from_inside_is_still_an_answer(kit: Any) -> None:
    async def unary(_request: Any, _context: Any) -> Any:
        waiting = asyncio.get_running_loop().create_future()
        waiting.cancel()
        await waiting

    async with kit.serve(Echo=unary) as started:
        call = kit.callable(started.channel, "Echo")(kit.Echo(), metadata=kit.caller, timeout=60)
        _, got = await failure_of(call)
    assert got.reason == errors_pb2.ERROR_REASON_INTERNAL


async def test_a_deadline_ends_the_handler_and_the_log_says_so(kit: Any) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def unary(_request: Any, _context: Any) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with kit.serve(Echo=unary) as started:
        with capture_logs() as logged:
            # A call that is over before it has come to the handler shows nothing.
            for seconds in (0.1, 1, 10):
                call = kit.callable(started.channel, "Echo")(kit.Echo(), metadata=kit.caller, timeout=seconds)
                code, got = await failure_of(call)
                if begun.is_set():
                    break
            async with asyncio.timeout(60):
                await ended.wait()
            await wait_until(lambda: any(line["event"] == "call" for line in logged))
    assert (code, got.reason) == (
        grpc.StatusCode.DEADLINE_EXCEEDED,
        errors_pb2.ERROR_REASON_CALL_TIMED_OUT,
    )
    line = [line for line in logged if line["event"] == "call"][-1]
    assert (line["code"], line["reason"]) == ("DEADLINE_EXCEEDED", "CALL_TIMED_OUT")


async def test_a_caller_that_goes_away_ends_the_stream_and_its_cleanup_runs(kit: Any) -> None:
    ended = asyncio.Event()

    async def stream(request: Any, _context: Any) -> AsyncIterator[Any]:
        try:
            while True:
                yield request
        finally:
            ended.set()

    async with kit.serve(Repeat=stream) as started:
        with capture_logs() as logged:
            call = kit.callable(started.channel, "Repeat")(kit.Echo(), metadata=kit.caller)
            await call.read()
            call.cancel()
            async with asyncio.timeout(60):
                await ended.wait()
            await wait_until(lambda: any(line["event"] == "call" for line in logged))
    (line,) = [line for line in logged if line["event"] == "call"]
    assert (line["code"], line["reason"]) == ("CANCELLED", "CALL_CANCELLED")


async def test_a_failure_before_the_first_message_of_a_stream_comes_without_headers(kit: Any) -> None:
    async def stream(request: Any, _context: Any) -> AsyncIterator[Any]:
        if not request.text:
            raise Failure(errors_pb2.ERROR_REASON_SESSION_NOT_FOUND, "None.")
        yield request

    async with kit.serve(Repeat=stream) as started:
        call = kit.callable(started.channel, "Repeat")(kit.Echo(), metadata=kit.caller, timeout=60)
        await failure_of(call)
        # gRPC shows headers that came with the status as trailing ones: Envoy can still answer 404.
        assert dict(await call.initial_metadata()) == {}
        assert dict(await call.trailing_metadata())["x-request-id"] == "test-request"


@pytest.mark.parametrize("method", ["Echo", "Repeat"])
async def test_a_response_that_is_too_large_to_send_is_typed(kit: Any, method: str) -> None:
    async def unary(_request: Any, _context: Any) -> Any:
        return kit.Echo(text="x" * MESSAGE_LIMIT)

    async def stream(request: Any, _context: Any) -> AsyncIterator[Any]:
        yield request
        yield kit.Echo(text="x" * MESSAGE_LIMIT)

    async with kit.serve(Echo=unary, Repeat=stream) as started:
        call = kit.callable(started.channel, method)
        code, got = await failure_of(call(kit.Echo(), metadata=kit.caller, timeout=60))
    assert (code, got.reason_name) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")
    assert got.metadata["limit"] == str(MESSAGE_LIMIT)


async def test_a_service_that_is_away_says_when_to_try_again(kit: Any) -> None:
    async def away(_request: Any, _context: Any) -> Any:
        raise Failure(errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE, "The session service is away.")

    async with kit.serve(Echo=away) as started:
        call = kit.callable(started.channel, "Echo")
        _, got = await failure_of(call(kit.Echo(), metadata=kit.caller, timeout=60))
    assert got.retry_after == timedelta(seconds=1)
