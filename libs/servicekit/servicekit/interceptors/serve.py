"""The server's one interceptor: every call, from its first byte to its status, in the order it happens."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import grpc
import grpc.aio

from servicekit.audit import AuditTrail
from servicekit.context import Call, begin
from servicekit.interceptors import errors
from servicekit.interceptors.admission import Admission
from servicekit.interceptors.call_log import Outcome, record
from servicekit.interceptors.incoming import Incoming
from servicekit.interceptors.request_id import request_id
from servicekit.interceptors.requests import answer_bytes, no_message, read, read_each
from servicekit.passport import REQUEST_ID_HEADER

Serialize = Callable[[Any], bytes]
Behavior = Callable[[Any, Any], Any]
Ask = Callable[[AsyncIterator[bytes], Any], Awaitable[Any]]


class CallInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Admits, reads, checks, answers, maps errors and records each call.

    It is one interceptor and not six because gRPC would make each a layer around every message of a stream.
    Requests reach it as bytes, so that who may not call is refused before anything is parsed, and what does
    not parse is refused in our words.
    """

    def __init__(self, admission: Admission, audit: AuditTrail | None) -> None:
        self._admission = admission
        self._audit = audit

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """Return the method's handler with everything around it, or one that says there is no such method."""
        incoming = Incoming(
            handler_call_details.method, tuple(handler_call_details.invocation_metadata or ())
        )
        handler = await continuation(handler_call_details)
        if handler is None:
            return self._missing(incoming)
        serialize = handler.response_serializer or bytes
        ask = _asking(handler)
        # Served as if requests were streams, whatever they are: gRPC starts such a handler before the first
        # message is in, so a caller who may not call is refused at once, and one who never sends a message,
        # which gRPC would leave without any answer, gets one.
        if handler.response_streaming:
            answer = self._stream(incoming, handler.stream_stream or handler.unary_stream, ask, serialize)
            return grpc.stream_stream_rpc_method_handler(answer, None, _once(serialize))
        answer = self._unary(incoming, handler.stream_unary or handler.unary_unary, ask, serialize)
        return grpc.stream_unary_rpc_method_handler(answer, None, _once(serialize))

    def _unary(self, incoming: Incoming, behavior: Behavior, ask: Ask, serialize: Serialize) -> Any:
        async def answer(raw: AsyncIterator[bytes], context: Any) -> bytes:
            async with self._answering(incoming, context) as call:
                call.request = await ask(raw, context)
                response = answer_bytes(serialize(await behavior(call.request, context)))
                await _send_headers(context, call)
            return response

        return answer

    def _stream(self, incoming: Incoming, behavior: Behavior, ask: Ask, serialize: Serialize) -> Any:
        async def answer(raw: AsyncIterator[bytes], context: Any) -> None:
            async with self._answering(incoming, context) as call:
                call.request = await ask(raw, context)
                result = behavior(call.request, context)
                if inspect.isawaitable(result):
                    # A handler that writes to the context by itself.
                    await result
                    return
                # Closed here, not by the garbage collector: a stream's `finally` runs before the call ends.
                async with aclosing(result):
                    begun = False
                    async for response in result:
                        raw_response = answer_bytes(serialize(response))
                        if not begun:
                            # Not earlier: after the headers, a refusal is too late for clients of JSON.
                            await _send_headers(context, call)
                            begun = True
                        await context.write(raw_response)

        return answer

    def _missing(self, incoming: Incoming) -> Any:
        async def answer(_raw: Any, context: Any) -> None:
            async with self._answering(incoming, context, known=False):
                raise errors.unimplemented(incoming.method[:200])

        return grpc.stream_stream_rpc_method_handler(answer)

    @asynccontextmanager
    async def _answering(
        self, incoming: Incoming, context: Any, *, known: bool = True
    ) -> AsyncIterator[Call]:
        """Surround one call: its id and passport before, its status, log line and numbers after."""
        incoming = replace(incoming, peer=context.peer())
        call = Call(incoming.method, request_id(incoming))
        begin(call)
        outcome = Outcome()
        try:
            incoming.check_size()
            await (self._admission.admit if known else self._admission.identify)(call, incoming)
            yield call
        except grpc.aio.AbortError:
            # A servicer that speaks a foreign protocol, such as health, ended the call in that one's terms.
            outcome.code = context.code()
            raise
        except asyncio.CancelledError as error:
            if errors.was_cancelled():
                gone = errors.timed_out if errors.deadline_passed(context) else errors.cancelled
                outcome.failed(gone(incoming.method))
                raise
            # Something that the handler waited for was cancelled. Let through, it would leave the caller
            # without an answer.
            outcome.failed(errors.internal(call.request_id), error)
            await errors.abort(context, errors.internal(call.request_id), call.request_id)
        except Exception as error:  # noqa: BLE001 - the last place that can give it a type
            failure = errors.failure_of(error, context, incoming.method, call.request_id)
            outcome.failed(failure, error)
            await errors.abort(context, failure, call.request_id)
        finally:
            outcome.over()
            # The answer goes first.
            note = partial(self._note, call, outcome, incoming, known=known)
            asyncio.get_running_loop().call_soon(note)

    def _note(self, call: Call, outcome: Outcome, incoming: Incoming, *, known: bool) -> None:
        """Write down how a call went."""
        record(call, outcome, known=known)
        if known and self._audit is not None:
            self._audit.note(call, outcome, incoming, self._admission.needed(incoming))


def _asking(handler: Any) -> Ask:
    """Return what gets the handler's argument: the request, or the stream of requests."""
    parse = handler.request_deserializer or bytes

    async def stream(raw: AsyncIterator[bytes], _context: Any) -> Any:
        return read_each(raw, parse)

    async def one(_raw: AsyncIterator[bytes], context: Any) -> Any:
        message = await context.read()
        if message is grpc.aio.EOF:  # type: ignore[attr-defined]
            raise no_message()
        return read(message, parse)

    return stream if handler.request_streaming else one


def _once(serialize: Serialize) -> Serialize:
    """Return a serializer for gRPC that leaves alone what is bytes already."""
    return lambda response: response if isinstance(response, bytes) else serialize(response)


async def _send_headers(context: Any, call: Call) -> None:
    if not call.from_outside and not call.answer_headers:
        # Nobody looks at them, and they are a step of their own.
        return
    await context.send_initial_metadata(((REQUEST_ID_HEADER, call.request_id), *call.answer_headers.items()))
