"""From an exception to the failure that the caller is told."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
from pointsman.errors.v1 import errors_pb2

from servicekit.errors import Failure
from servicekit.passport import REQUEST_ID_HEADER

# What the base classes that gRPC generates raise for a method that nobody wrote.
_NOT_WRITTEN = ("Method not implemented!",)


def failure_of(error: Exception, context: Any, method: str, request_id: str) -> Failure:
    """Return what to tell the caller: a Failure as it is, the unexpected as INTERNAL, without its text."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, grpc.aio.AioRpcError):
        return Failure.from_rpc_error(error, "peer")
    if isinstance(error, NotImplementedError) and error.args == _NOT_WRITTEN:
        return unimplemented(method)
    if isinstance(error, TimeoutError) and deadline_passed(context):
        return timed_out(method)
    return internal(request_id)


def internal(request_id: str) -> Failure:
    """Return the failure that stands for a fault of ours."""
    return Failure(
        errors_pb2.ERROR_REASON_INTERNAL,
        f"Something went wrong on our side. The log has it under request id {request_id}.",
        request_id=request_id,
    )


def unimplemented(method: str) -> Failure:
    """Return the failure for a method that this server does not have."""
    return Failure(
        errors_pb2.ERROR_REASON_METHOD_UNIMPLEMENTED, f"This installation has no method {method!r}."
    )


def timed_out(method: str) -> Failure:
    """Return the failure for a call whose own deadline passed."""
    return Failure(
        errors_pb2.ERROR_REASON_CALL_TIMED_OUT, f"{method} was not done before the call's deadline."
    )


def cancelled(method: str) -> Failure:
    """Return the failure for a call whose caller went away; only the log sees it."""
    return Failure(errors_pb2.ERROR_REASON_CALL_CANCELLED, f"The caller of {method} went away.")


def deadline_passed(context: Any) -> bool:
    """Whether the call had a deadline and it is over."""
    remaining = context.time_remaining()
    return remaining is not None and remaining <= 0


def was_cancelled() -> bool:
    """Whether a CancelledError in this task means the task itself, not something that it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def abort(context: Any, failure: Failure, request_id: str) -> None:
    """End the call with the failure and its details. Never returns normally."""
    status = failure.to_status()
    await context.abort(
        status.code, status.details, (*status.trailing_metadata, (REQUEST_ID_HEADER, request_id))
    )
