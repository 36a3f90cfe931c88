"""What an HTTP request must look like before anybody looks at what it says."""

from __future__ import annotations

from typing import Final

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web
from pointsman.errors.v1 import errors_pb2

from servicekit.errors import Failure

_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})


def check_framing(request: web.BaseRequest, body_limit: int) -> None:
    """Raise Failure for a request that two HTTP implementations could read in two ways, or that is too large.

    MALFORMED_REQUEST, ENCODING_UNSUPPORTED or MESSAGE_TOO_LARGE. aiohttp's parser has refused other doubtful
    requests before: two lengths, a length beside chunks, bare CR or LF, folded headers.
    """
    if request.version not in (HttpVersion10, HttpVersion11):
        raise malformed("its version is not HTTP/1.0 or HTTP/1.1")
    if not request.raw_path.startswith("/"):
        raise malformed("its target is not a path")
    if hdrs.UPGRADE in request.headers:
        raise malformed("this endpoint does not upgrade to other protocols; leave the Upgrade header out")
    if request.headers.get(hdrs.EXPECT, "100-continue").lower() != "100-continue":
        raise malformed("the only expectation that is supported is 100-continue")
    _check_encodings(request)
    if request.method not in _WITH_BODY and (
        request.content_length or hdrs.TRANSFER_ENCODING in request.headers
    ):
        raise malformed(f"{request.method} takes no body")
    if (request.content_length or 0) > body_limit:
        raise too_large(body_limit)


def _check_encodings(request: web.BaseRequest) -> None:
    coded = ",".join(request.headers.getall(hdrs.CONTENT_ENCODING, ())).lower()
    if any(name.strip() not in ("", "identity") for name in coded.split(",")):
        raise Failure(
            errors_pb2.ERROR_REASON_ENCODING_UNSUPPORTED,
            f"The body has the content encoding {coded[:64]!a}. Compressed bodies are not accepted; send it "
            "without a Content-Encoding header (identity).",
            supported="identity",
        )
    transfer = request.headers.getall(hdrs.TRANSFER_ENCODING, ())
    if transfer and (
        [value.lower() for value in transfer] != ["chunked"] or request.version == HttpVersion10
    ):
        raise Failure(
            errors_pb2.ERROR_REASON_ENCODING_UNSUPPORTED,
            f"The body has the transfer encoding {','.join(transfer)[:64]!a}. Send a Content-Length, or "
            "Transfer-Encoding: chunked over HTTP/1.1.",
            supported="chunked",
        )


def malformed(what: str) -> Failure:
    """Return the failure for a request that breaks a rule of HTTP."""
    return Failure(errors_pb2.ERROR_REASON_MALFORMED_REQUEST, f"The HTTP request is refused: {what}.")


def too_large(limit: int) -> Failure:
    """Return the failure for a body over its limit."""
    return Failure(
        errors_pb2.ERROR_REASON_MESSAGE_TOO_LARGE,
        f"The body is larger than {limit // 1024 // 1024} MiB, the limit of this endpoint. Send less.",
        limit=str(limit),
    )
