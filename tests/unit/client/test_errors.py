"""A failure of the connection is as typed as one that a service sends."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from pointsman_client import NotFound, TimedOut, Unavailable
from pointsman_client.errors import Internal, from_rpc_error
from pointsman_client.patience import passes


def rpc_error(code: grpc.StatusCode, details: str, trailing: bytes = b"") -> grpc.aio.AioRpcError:
    metadata = grpc.aio.Metadata(*([("grpc-status-details-bin", trailing)] if trailing else []))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), metadata, details, None)


@pytest.mark.parametrize(
    ("code", "details"),
    [
        (grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses"),
        (grpc.StatusCode.UNAVAILABLE, "Stream removed (GOAWAY received; Error code: 9; Debug Text: )"),
        (grpc.StatusCode.UNAVAILABLE, "keepalive watchdog timeout"),
        (
            grpc.StatusCode.INTERNAL,
            "Stream removed (RST_STREAM (Received RST_STREAM with error code 2))",
        ),
        (grpc.StatusCode.UNKNOWN, "Stream removed"),
        (grpc.StatusCode.CANCELLED, "Received RST_STREAM with error code 8"),
    ],
)
def test_a_connection_that_breaks_is_unavailable_whatever_the_code(code, details):
    error = from_rpc_error(rpc_error(code, details))
    assert isinstance(error, Unavailable)
    assert (error.reason, error.code) == ("SERVICE_UNAVAILABLE", grpc.StatusCode.UNAVAILABLE)
    assert error.retry_after is not None
    assert details in error.message
    assert passes(error)


def test_other_statuses_without_details():
    timed_out = from_rpc_error(rpc_error(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))
    assert (type(timed_out), timed_out.reason, timed_out.retry_after) == (TimedOut, "CALL_TIMED_OUT", None)
    fault = from_rpc_error(rpc_error(grpc.StatusCode.UNKNOWN, "Exception iterating requests!"))
    assert (type(fault), fault.reason) == (Internal, "")


def test_what_a_service_says_is_kept():
    status = status_pb2.Status(code=code_pb2.NOT_FOUND, message="There is no session.")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="SESSION_NOT_FOUND", domain="pointsman"))
    error = from_rpc_error(
        rpc_error(grpc.StatusCode.NOT_FOUND, "There is no session.", status.SerializeToString())
    )
    assert (type(error), error.reason, error.message) == (
        NotFound,
        "SESSION_NOT_FOUND",
        "There is no session.",
    )
