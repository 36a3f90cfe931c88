"""What a sandbox sends to its relay reaches llm-proxy as one request that is framed by us, or not at all."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.relay_house import TOKEN, RecordingUpstream, recording_upstream, relay, send

BODY = json.dumps({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}).encode()


def post(*headers: str, body: bytes = BODY, length: int | None = None, path: str = "/v1/messages") -> bytes:
    """A request with these headers; a length unless one of them speaks of transfer."""
    lines = [f"POST {path} HTTP/1.1", "Host: x", *headers]
    if not any(line.lower().startswith(("transfer-encoding", "content-length")) for line in headers):
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(body: bytes, piece: int = 40) -> bytes:
    parts = [body[at : at + piece] for at in range(0, len(body), piece)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.fixture
async def upstream() -> AsyncIterator[RecordingUpstream]:
    async with recording_upstream() as running:
        yield running


@pytest.fixture
async def socket(tmp_path: Path, upstream: RecordingUpstream) -> AsyncIterator[Path]:
    async with relay(tmp_path / "one", upstream.url) as path:
        yield path


@pytest.mark.parametrize(
    "header",
    [
        "Content-Encoding: gzip", "CONTENT-ENCODING: GZIP", "content-encoding: deflate",
        "Content-Encoding: br",
        "Content-Encoding: zstd", "Content-Encoding: gzip, identity", "Content-Encoding: identity, gzip",
        "Content-Encoding: identity\r\nContent-Encoding: gzip", "Content-Encoding: x-gzip",
        "Content-Encoding: \tgzip ", "Content-Encoding: made-up",
        "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: chunked, gzip, chunked",
    ],
)  # fmt: skip
async def test_every_encoding_is_refused_with_what_is_supported(
    socket: Path, upstream: RecordingUpstream, header: str
) -> None:
    body = b"0\r\n\r\n" if header.startswith("Transfer") else gzip.compress(BODY)
    (answer,) = await send(socket, post(header, body=body))
    assert upstream.requests == 0
    assert answer.error["type"] == "invalid_request_error"
    if "chunked, gzip" in header:
        # Two framings of one body: not even a request.
        assert answer.status == 400
        return
    assert answer.status == 415
    assert answer.headers["x-pointsman-reason"] == "ENCODING_UNSUPPORTED"
    supported = "chunked" if header.startswith("Transfer") else "identity"
    assert supported in answer.error["message"]


@pytest.mark.parametrize("length", ["sized", "chunked"])
async def test_a_bomb_is_not_inflated(socket: Path, upstream: RecordingUpstream, length: str) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    blank = b" " * (1 << 20)
    bomb = b"".join(packer.compress(blank) for _ in range(64)) + packer.flush()
    sent = (
        post("Content-Encoding: gzip", body=bomb)
        if length == "sized"
        else post("Content-Encoding: gzip", "Transfer-Encoding: chunked", body=chunked(bomb, 4096))
    )
    (answer,) = await send(socket, sent)
    assert answer.status == 415
    assert upstream.requests == 0


@pytest.mark.parametrize(
    "request_bytes",
    [
        post("Transfer-Encoding: chunked", "Content-Length: 5", body=b"0\r\n\r\n"),
        post("Content-Length: 5", "Content-Length: 6"), post("Content-Length: 5", "Content-Length: 5"),
        post("Content-Length: 5, 5"), post("Content-Length: +5"), post("Content-Length: -1"),
        post("Content-Length: 0x5"), post("Content-Length: 99999999999999999999999"),
        post("Content-Length: 18446744073709551615"), post("Content-Length : 5"),
        post("Transfer-Encoding: identity", "Content-Length: 5"), post("Transfer-Encoding: xchunked"),
        post("Transfer-Encoding:\x0bchunked"),
        post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        post("Transfer-Encoding: chunked", body=b"zz\r\n"),
        post("Transfer-Encoding: chunked", body=b"ffffffffffffffffff\r\na"),
        post("Transfer-Encoding: chunked", body=b"5\nhello\n0\n\n"),
        b"POST /v1/messages HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\nHost: x\nContent-Length: 1\n\na",
        b"GET /v1/models HTTP/1.1\r\nHost: x\rContent-Length: 5\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAccept: a\r\n b\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\n\r\n", b"GET /v1/models\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET http://llm-proxy/v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT llm-proxy:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\n" + b"X: 1\r\n" * 500 + b"\r\n",
        post("Expect: tea"), post("Anthropic-Beta: \xff\xfe"), post("Anthropic-Version: a\tb"),
    ],
)  # fmt: skip
async def test_doubtful_requests_are_refused_with_a_type_and_reach_nobody(
    socket: Path, upstream: RecordingUpstream, request_bytes: bytes
) -> None:
    answer, *_ = await send(socket, request_bytes)
    assert 400 <= answer.status < 500
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.error["message"]
    assert upstream.requests == 0


@pytest.mark.parametrize("size", [100, 700_000])
async def test_a_body_goes_on_framed_by_us(socket: Path, upstream: RecordingUpstream, size: int) -> None:
    body = b'{"x":"' + b"y" * size + b'"}'
    (one,) = await send(socket, post(body=body))
    (two,) = await send(socket, post("Transfer-Encoding: chunked", body=chunked(body, 50_000)))
    assert (one.status, two.status) == (200, 200)
    heads = [bytes(kept).split(b"\r\n\r\n")[0].lower() for kept in upstream.connections]
    # Small and of known length: one piece with its length. Else chunks, on a connection of its own.
    assert (b"content-length: %d" % len(body) in heads[0]) == (size == 100)
    assert b"transfer-encoding: chunked" in heads[-1]
    assert all(b"content-encoding" not in head and b"host: llm-proxy" in head for head in heads)
    assert len(upstream.connections) == 2


async def test_small_requests_share_the_sandboxs_own_connection(
    socket: Path, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    for _ in range(3):
        await send(socket, post())
    assert len(upstream.connections) == 1
    async with relay(tmp_path / "two", upstream.url, "pst_other") as other:
        await send(other, post())
        await send(socket, post())
    assert len(upstream.connections) == 2
    mine, others = upstream.connections
    assert TOKEN.encode() in mine
    assert b"pst_other" not in mine
    assert b"pst_other" in others
    assert TOKEN.encode() not in others


@pytest.mark.parametrize("size", [100, 3_000_000])
async def test_a_connection_is_not_used_again_after_an_early_answer(
    socket: Path, upstream: RecordingUpstream, size: int
) -> None:
    upstream.early = True
    body = b"x" * size
    answers = await send(socket, post(body=body))
    assert [answer.status for answer in answers] == [403]
    upstream.early = False
    (answer,) = await send(socket, post())
    assert answer.status == 200
    assert len(upstream.connections) == 2
    assert upstream.connections[1].count(b"POST ") == 1


async def test_a_body_that_ends_early_reaches_nobody_as_a_request(
    socket: Path, upstream: RecordingUpstream
) -> None:
    await send(socket, post(length=len(BODY) + 10), end=True)
    await send(socket, post("Transfer-Encoding: chunked", body=chunked(BODY)[:-5]), end=True)
    (answer,) = await send(socket, post())
    assert answer.status == 200
    last = bytes(upstream.connections[-1])
    assert last.count(b"POST ") == 1
    assert last.endswith(BODY)


async def test_a_body_over_the_limit_is_a_413(socket: Path, upstream: RecordingUpstream) -> None:
    (told,) = await send(socket, post(length=33 * 1024 * 1024, body=b"x"))
    assert (told.status, told.error["type"]) == (413, "request_too_large")
    mebibyte = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    found = await send(socket, post("Transfer-Encoding: chunked", body=b""), *[mebibyte] * 33)
    assert [answer.status for answer in found] == [413]
    assert all(bytes(kept).count(b"0\r\n\r\n") == 0 for kept in upstream.connections)


async def test_pipelined_requests_are_answered_in_order_until_one_is_refused(
    socket: Path, upstream: RecordingUpstream
) -> None:
    good, bad = post(), post("Content-Encoding: br")
    answers = await send(socket, good + good + bad + good)
    assert [answer.status for answer in answers] == [200, 200, 415]
    assert upstream.requests == 2


async def test_trailers_do_not_become_headers_of_the_next_request(
    socket: Path, upstream: RecordingUpstream
) -> None:
    trailers = chunked(BODY)[:-2] + b"anthropic-beta: smuggled\r\n\r\n"
    answers = await send(socket, post("Transfer-Encoding: chunked", body=trailers) + post())
    assert [answer.status for answer in answers] == [200]
    assert answers[0].headers["connection"] == "close"
    assert all(b"smuggled" not in kept for kept in upstream.connections)


async def test_a_client_that_waits_to_be_told_is_told(socket: Path, upstream: RecordingUpstream) -> None:
    reader, writer = await asyncio.open_unix_connection(socket)
    writer.write(post("Expect: 100-continue", body=b"", length=len(BODY)))
    async with asyncio.timeout(60):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(BODY)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    writer.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"HTTP/1.1 200 OK\r\n", b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    ],
)  # fmt: skip
async def test_an_upstream_that_dies_or_talks_nonsense_is_a_typed_503(
    socket: Path, upstream: RecordingUpstream, answer: bytes
) -> None:
    upstream.answer, upstream.cut = answer, True
    (got,) = await send(socket, post())
    assert (got.status, got.error["type"]) == (503, "overloaded_error")
    assert got.headers["x-pointsman-reason"] == "SERVICE_UNAVAILABLE"


async def test_an_error_that_repeats_the_token_does_not_show_it(
    socket: Path, upstream: RecordingUpstream
) -> None:
    error = {"type": "api_error", "message": f"Bearer {TOKEN}"}
    said = json.dumps({"type": "error", "error": error}).encode()
    upstream.answer = b"HTTP/1.1 400 Bad\r\ncontent-length: %d\r\n\r\n%b" % (len(said), said)
    (answer,) = await send(socket, post())
    assert answer.status == 400
    assert b"pst_" not in answer.body
