import itertools
import re
from datetime import timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest
from pointsman.errors.v1 import errors_pb2
from servicekit import errors_doc, status
from servicekit.errors import CODES, Failure, reason_name, reason_of

ROOT = Path(__file__).parents[3]
PROTO = (ROOT / errors_doc.SOURCE).read_text()
REASONS = [number for number in errors_pb2.ErrorReason.values() if number != 0]


def rpc_error(failure: Failure) -> grpc.aio.AioRpcError:
    sent = failure.to_status()
    return grpc.aio.AioRpcError(
        sent.code, grpc.aio.Metadata(), grpc.aio.Metadata(*sent.trailing_metadata), sent.details, None
    )


def untyped(code: grpc.StatusCode, details: str = "") -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details, None)


def test_every_reason_has_a_code() -> None:
    assert sorted(CODES) == sorted(REASONS)


@pytest.mark.parametrize("reason", REASONS, ids=reason_name)
def test_the_comment_of_a_reason_begins_with_its_code(reason: errors_pb2.ErrorReason.ValueType) -> None:
    comment = errors_doc.comments(PROTO)[errors_pb2.ErrorReason.Name(reason)]
    assert comment.startswith(f"{CODES[reason].name}. ")


def test_the_committed_page_of_errors_is_the_one_that_the_table_makes() -> None:
    assert (ROOT / "docs" / "errors.md").read_text() == errors_doc.render(PROTO)


def test_the_page_has_every_reason_once() -> None:
    listed = re.findall(r"^\| `([A-Z_]+)` \|", errors_doc.render(PROTO), re.MULTILINE)
    assert sorted(listed) == sorted(reason_name(reason) for reason in REASONS)


@pytest.mark.parametrize("reason", REASONS, ids=reason_name)
def test_a_failure_survives_the_wire_whole(reason: errors_pb2.ErrorReason.ValueType) -> None:
    sent = Failure(
        reason,
        "Überfüllt: 満員 — try later\nor elsewhere 🚂",
        fields=[("options.models[2]", "must not be empty"), ("", "nothing fits")],
        retry_after=timedelta(seconds=2, milliseconds=500),
        model="groq/llama",
    )
    got = Failure.from_rpc_error(rpc_error(sent), "session")
    assert (got.reason, got.message, got.fields) == (sent.reason, sent.message, sent.fields)
    assert (got.retry_after, got.metadata, got.code) == (sent.retry_after, sent.metadata, sent.code)


def test_a_failure_survives_as_data() -> None:
    sent = Failure(errors_pb2.ERROR_REASON_QUEUE_FULL, "Full.", retry_after=timedelta(seconds=3), limit="10")
    got = Failure.from_proto(errors_pb2.Failure.FromString(sent.to_proto().SerializeToString()))
    assert (got.reason, got.message) == (sent.reason, sent.message)
    assert (got.retry_after, got.metadata) == (sent.retry_after, sent.metadata)


def test_no_delay_stays_no_delay() -> None:
    sent = Failure(errors_pb2.ERROR_REASON_QUEUE_FULL, "Full.")
    assert Failure.from_proto(sent.to_proto()).retry_after is None
    assert Failure.from_rpc_error(rpc_error(sent), "session").retry_after is None


def test_metadata_may_have_the_names_of_our_arguments() -> None:
    sent = Failure(errors_pb2.ERROR_REASON_QUEUE_FULL, "Full.")
    sent.metadata = {"message": "m", "reason": "r", "fields": "f"}
    assert Failure.from_rpc_error(rpc_error(sent), "session").metadata == sent.metadata
    assert Failure.from_proto(sent.to_proto()).metadata == sent.metadata


def test_data_with_a_reason_from_the_future_reads_as_internal() -> None:
    proto = errors_pb2.Failure(message="New.")
    proto.reason = 9999  # type: ignore[assignment]
    assert Failure.from_proto(proto).reason == errors_pb2.ERROR_REASON_INTERNAL


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE),
        (grpc.StatusCode.CANCELLED, errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors_pb2.ERROR_REASON_CALL_TIMED_OUT),
        (grpc.StatusCode.UNIMPLEMENTED, errors_pb2.ERROR_REASON_METHOD_UNIMPLEMENTED),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors_pb2.ERROR_REASON_MESSAGE_TOO_LARGE),
        (grpc.StatusCode.UNKNOWN, errors_pb2.ERROR_REASON_INTERNAL),
    ],
)
def test_a_status_that_grpc_made_gets_a_reason_and_names_the_service(
    code: grpc.StatusCode, reason: errors_pb2.ErrorReason.ValueType
) -> None:
    got = Failure.from_rpc_error(untyped(code, "Unexpected <class 'KeyError'> at 10.0.0.7"), "session")
    assert (got.reason, got.metadata) == (reason, {"service": "session"})
    assert "session" in got.message
    assert "KeyError" not in got.message
    assert "10.0.0.7" not in got.message


def test_garbage_where_the_details_should_be_is_no_details() -> None:
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE,
        grpc.aio.Metadata(),
        grpc.aio.Metadata((status.DETAILS_HEADER, b"\xff\xff\xff")),
        "",
        None,
    )
    assert Failure.from_rpc_error(error, "runner").reason == errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE


def test_a_huge_failure_stays_below_the_limit_of_headers() -> None:
    huge = Failure(
        errors_pb2.ERROR_REASON_INVALID_FIELD,
        "満" * 100_000,
        fields=[(f"items[{number}]", "is too long") for number in range(10_000)],
        model="m" * 50_000,
        state="queued",
    )
    sent = huge.to_status()
    raw = dict(sent.trailing_metadata)[status.DETAILS_HEADER]
    assert 3 * len(sent.details.encode()) + 4 * len(raw) / 3 < 8000
    got = Failure.from_rpc_error(rpc_error(huge), "session")
    assert got.reason == huge.reason
    assert got.message.endswith("…")
    assert got.fields == tuple(itertools.islice(huge.fields, len(got.fields)))
    assert len(got.fields) > 10
    assert got.metadata == {"state": "queued"}


def test_a_lone_surrogate_does_not_cost_the_error() -> None:
    sent = Failure(errors_pb2.ERROR_REASON_FILE_NOT_FOUND, "No file \udcff.", path="\udcff")
    got = Failure.from_rpc_error(rpc_error(sent), "runner")
    assert got.reason == errors_pb2.ERROR_REASON_FILE_NOT_FOUND
    assert got.message == "No file ?."


def test_names_on_the_wire_have_no_prefix() -> None:
    assert reason_name(errors_pb2.ERROR_REASON_SESSION_NOT_FOUND) == "SESSION_NOT_FOUND"
    assert reason_of("SESSION_NOT_FOUND") == errors_pb2.ERROR_REASON_SESSION_NOT_FOUND
    assert reason_of("UNSPECIFIED") is None
    assert reason_of("NOBODY_KNOWS") is None


@pytest.mark.parametrize(
    ("code", "details"),
    [
        (grpc.StatusCode.UNKNOWN, "Stream removed"),
        (grpc.StatusCode.INTERNAL, "Stream removed (RST_STREAM (Received RST_STREAM with error code 2))"),
        (grpc.StatusCode.UNAVAILABLE, "keepalive watchdog timeout"),
    ],
)
def test_a_connection_that_broke_is_the_service_being_away(code, details):
    got = Failure.from_rpc_error(untyped(code, details), "session")
    assert got.reason == errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE
