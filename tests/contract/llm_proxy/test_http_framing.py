"""Requests to llm-proxy's HTTP endpoint that are encoded, framed in a doubtful way, or for another host."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from support.llm_proxy_house import ProxyHouse, behind, proxy_house
from support.scripted_openai import Answer, scripted_upstream

ASK = {"model": "demo/offline", "max_tokens": 5, "messages": [{"role": "user", "content": "2+2"}]}


async def exchange(house: ProxyHouse, sent: bytes) -> tuple[int, dict[str, str], Any]:
    """Send bytes; return the status, headers and JSON of the answer."""
    host, _, port = house.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(60):
            writer.write(sent)
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
            }
            body = await reader.readexactly(int(headers.get("content-length", 0)))
    finally:
        writer.close()
    return int(head[0].split()[1]), headers, json.loads(body or b"null")


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
@pytest.mark.parametrize("encoding", ["gzip", "DEFLATE", "br", "zstd", "identity, gzip"])
async def test_compressed_bodies_are_refused_unread(demo: ProxyHouse, path: str, encoding: str) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    blank = b" " * (1 << 20)
    bomb = b"".join(packer.compress(blank) for _ in range(200)) + packer.flush()
    headers = {"x-api-key": await demo.token(), "content-encoding": encoding}
    reply = await demo.post(path, bomb, headers)
    assert (reply.status, reply.headers["x-pointsman-reason"]) == (415, "ENCODING_UNSUPPORTED")
    assert reply.json["error"]["type"] == "invalid_request_error"
    assert "identity" in reply.json["error"]["message"]


async def test_after_a_refusal_a_bounded_amount_is_read(demo: ProxyHouse) -> None:
    host, _, port = demo.url.removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999999\r\n\r\n")
    sent = 0
    with pytest.raises(ConnectionError):
        async with asyncio.timeout(60):
            while True:
                writer.write(b"x" * (1 << 20))
                await writer.drain()
                sent += 1 << 20
    assert sent < 256 << 20


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"GET /\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
    ],
)  # fmt: skip
async def test_what_is_not_http_gets_a_typed_error_that_repeats_nothing(
    demo: ProxyHouse, sent: bytes
) -> None:
    status, headers, body = await exchange(demo, sent)
    assert 400 <= status < 500
    assert headers["content-type"].startswith("application/json")
    assert body["type"] == "error"
    assert "nonsense" not in body["error"]["message"]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7105", "127.0.0.1.evil.example", "a b", ""])
async def test_a_page_that_rebinds_its_name_is_answered_421(demo: ProxyHouse, host: str) -> None:
    sent = f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    status, headers, body = await exchange(demo, sent)
    assert (status, headers["x-pointsman-reason"]) == (421, "HOST_NOT_ALLOWED")
    assert "POINTSMAN_PUBLIC_HOSTS" in body["error"]["message"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]", "LLM-PROXY:7105", "llm-proxy.ns.svc"])
async def test_loopback_and_names_of_services_are_answered(demo: ProxyHouse, host: str) -> None:
    sent = f"HEAD / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    assert (await exchange(demo, sent))[0] == 200


@pytest.mark.parametrize("size", [10, 300_000, 1_500_000])
@pytest.mark.parametrize("sized", [True, False])
async def test_bodies_of_any_size_are_read(demo: ProxyHouse, size: int, sized: bool) -> None:
    body = json.dumps({**ASK, "messages": [{"role": "user", "content": "x" * size}]}).encode()

    async def pieces() -> Any:
        for at in range(0, len(body), 60_000):
            yield body[at : at + 60_000]

    headers = {"x-api-key": await demo.token()}
    async with demo.session.post(
        f"{demo.url}/v1/messages", data=body if sized else pieces(), headers=headers
    ) as reply:
        assert reply.status == 200, await reply.text()
        assert (reply.headers.get("connection") == "close") == (not sized)


async def test_large_bodies_of_one_tenant_leave_the_others_alone(demo: ProxyHouse) -> None:
    # 200,000 small values take some 50 ms to read, each time.
    many = {**ASK, "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}] * 60_000}]}
    hostile = {"x-api-key": await demo.token(tenant="mallory")}
    headers = {"x-api-key": await demo.token(tenant="acme")}
    raw = json.dumps(many).encode()

    async def flood() -> None:
        async with demo.session.post(f"{demo.url}/v1/messages", data=raw, headers=hostile) as reply:
            await reply.read()

    flooding = [asyncio.create_task(flood()) for _ in range(8)]
    try:
        async with asyncio.timeout(60):
            for _ in range(5):
                reply = await demo.post("/v1/messages", ASK, headers)
                assert reply.status == 200
        assert not all(task.done() for task in flooding)
    finally:
        for task in flooding:
            task.cancel()
        await asyncio.gather(*flooding, return_exceptions=True)


async def test_bodies_that_are_held_have_a_limit_for_each_tenant(
    demo: ProxyHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_proxy.http.bodies._HELD_BYTES_EACH", 1_000_000)
    big = json.dumps({**ASK, "messages": [{"role": "user", "content": "x" * 1_000_000}]}).encode()
    reply = await demo.post("/v1/messages", big, {"x-api-key": await demo.token()})
    assert (reply.status, reply.headers["x-pointsman-reason"]) == (429, "RATE_LIMITED")
    small = await demo.post("/v1/messages", ASK, {"x-api-key": await demo.token()})
    assert small.status == 200


@pytest.mark.parametrize("stream", [True, False])
async def test_a_provider_that_compresses_its_answer_is_not_unpacked(tmp_path: Path, stream: bool) -> None:
    packed = gzip.compress(b" " * 50_000_000, 1)
    kind = "text/event-stream" if stream else "application/json"
    answer = Answer((packed,), 200, {"content-type": kind, "content-encoding": "gzip"})
    async with scripted_upstream([answer]) as provider:
        model, environ = behind("anthropic", provider.url)
        models = (
            "model_list: [{model_name: anthropic/*, litellm_params: "
            f"{{model: anthropic/*, api_base: '{provider.url}', api_key: os.environ/ANTHROPIC_API_KEY}}}}]\n"
            "router_settings: {num_retries: 0}\n"
        )
        async with proxy_house(tmp_path, environ, models) as house:
            reply = await house.ask(await house.token(), model, stream=stream)
    assert reply.headers["x-pointsman-reason"] == "PROVIDER_RESPONSE_INVALID"
    assert "compressed" in reply.json["error"]["message"]


async def test_an_expectation_is_answered(demo: ProxyHouse) -> None:
    headers = {"x-api-key": await demo.token()}
    async with demo.session.post(
        f"{demo.url}/v1/messages",
        data=json.dumps(ASK).encode(),
        headers=headers,
        expect100=True,
        timeout=aiohttp.ClientTimeout(total=60),
    ) as reply:
        assert reply.status == 200
