"""What providers do wrong becomes a typed error, or a retry that the caller sees."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from pointsman.llm.v1 import llm_service_pb2 as pb
from servicekit.errors import Failure
from servicekit.testing import wait_until
from support.llm_proxy_house import ProxyHouse, behind, proxy_house
from support.scripted_openai import (
    Answer,
    ScriptedUpstream,
    anthropic_text,
    bytes_answer,
    failing,
    openai_text,
    scripted_upstream,
)

SHAPES: dict[str, Callable[..., Answer]] = {"groq": openai_text, "anthropic": anthropic_text}

# The shipped names with times that tests can wait for.
QUICK = """
model_list:
  - model_name: groq/*
    litellm_params: {model: groq/*, api_base: os.environ/GROQ_API_BASE}
  - model_name: anthropic/*
    litellm_params: {model: anthropic/*, api_base: os.environ/ANTHROPIC_API_BASE}
router_settings: {num_retries: RETRIES, timeout: TIMEOUT}
"""


def settings(retries: int, timeout: int) -> str:
    """Only what never answers is given up soon: a busy machine looks like silence, too."""
    return QUICK.replace("RETRIES", str(retries)).replace("TIMEOUT", str(timeout))


@asynccontextmanager
async def house_before(
    directory: Path, shape: str, script: Any, retries: int = 1, timeout: int = 60
) -> AsyncIterator[tuple[ProxyHouse, ScriptedUpstream, str]]:
    await _warm(directory, shape)
    async with scripted_upstream(script) as provider:
        model, environ = behind(shape, provider.url)
        async with proxy_house(directory, environ, settings(retries, timeout)) as house:
            yield house, provider, model


async def _warm(directory: Path, shape: str) -> None:
    """Make a first call with time enough: LiteLLM imports parts of itself then, which looks like silence."""
    if shape == "anthropic" or shape in _WARMED:
        return
    async with scripted_upstream([openai_text("Warm")]) as provider:
        model, environ = behind(shape, provider.url)
        async with proxy_house(directory, environ) as house:
            assert (await house.ask(await house.token(tenant="warm"), model, stream=True)).said() == "Warm"
    _WARMED.add(shape)


_WARMED: set[str] = set()


@dataclass(frozen=True)
class Refusal:
    """What a provider's status becomes, after how many attempts."""

    status: int
    reason: str
    http: int
    attempts: int


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(400, "PROVIDER_REQUEST_REFUSED", 400, 1),
        Refusal(401, "PROVIDER_CREDENTIAL_REFUSED", 403, 1),
        Refusal(403, "PROVIDER_CREDENTIAL_REFUSED", 403, 1),
        Refusal(404, "PROVIDER_REQUEST_REFUSED", 400, 1),
        Refusal(429, "PROVIDER_RATE_LIMITED", 429, 2),
        Refusal(500, "PROVIDER_UNAVAILABLE", 529, 2),
        Refusal(529, "PROVIDER_UNAVAILABLE", 529, 2),
    ],
    ids=lambda refusal: str(refusal.status),
)
async def test_an_error_status_is_typed(tmp_path: Path, shape: str, refusal: Refusal) -> None:
    async with house_before(tmp_path, shape, [failing(refusal.status, "told so")]) as (
        house,
        provider,
        model,
    ):
        reply = await house.ask(await house.token(), model)
        [row] = await house.usage()
    told = (reply.status, reply.headers["x-pointsman-reason"])
    assert told == (refusal.http, refusal.reason), reply.text
    assert reply.json["type"] == "error"
    assert model in reply.json["error"]["message"]
    assert "told so" in reply.json["error"]["message"]
    assert len(provider.asked) == refusal.attempts
    assert (row.failed_calls, row.retries, row.usage.cost_usd) == (1, refusal.attempts - 1, 0)


@pytest.mark.parametrize("shape", SHAPES)
async def test_an_overload_is_tried_again_and_the_caller_sees_it(tmp_path: Path, shape: str) -> None:
    script = [failing(529), SHAPES[shape]("At last")]
    async with house_before(tmp_path, shape, script) as (house, _, model):
        reply = await house.ask(await house.token(), model, stream=True)
        [row] = await house.usage()
    assert reply.said() == "At last"
    [retry] = reply.comments("retry")
    assert (retry["attempt"], retry["max_attempts"], retry["status"]) == (1, 2, 529)
    assert retry["delay_seconds"] > 0
    assert (row.retries, row.failed_calls) == (1, 0)


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_providers_pause_is_kept(tmp_path: Path, shape: str) -> None:
    script = [failing(429, retry_after="2"), SHAPES[shape]("Thanks")]
    async with house_before(tmp_path, shape, script) as (house, _, model):
        reply = await house.ask(await house.token(), model, stream=True)
    assert reply.said() == "Thanks"
    assert reply.comments("retry")[0]["delay_seconds"] == pytest.approx(2)


async def test_a_pause_that_nobody_waits_for_is_told(tmp_path: Path) -> None:
    async with house_before(tmp_path, "anthropic", [failing(429, retry_after="600")]) as (
        house,
        provider,
        model,
    ):
        reply = await house.ask(await house.token(), model, stream=True)
    assert (reply.status, reply.headers["retry-after"]) == (429, "600")
    assert len(provider.asked) == 1


@pytest.mark.parametrize("shape", SHAPES)
async def test_when_all_attempts_fail_after_a_visible_retry_the_stream_says_so(
    tmp_path: Path, shape: str
) -> None:
    async with house_before(tmp_path, shape, [failing(529)]) as (house, _, model):
        reply = await house.ask(await house.token(), model, stream=True)
    assert [retry["attempt"] for retry in reply.comments("retry")] == [1]
    [error] = reply.comments("error")
    assert (error["reason"], error["status"]) == ("PROVIDER_UNAVAILABLE", 529)
    assert reply.events()[-1]["error"]["type"] == "overloaded_error"


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_stream_that_is_cut_after_its_first_token_is_not_tried_again(
    tmp_path: Path, shape: str
) -> None:
    whole = SHAPES[shape]("Half of it and no more")
    cut = replace(whole, chunks=whole.chunks[:5], end="cut")
    async with house_before(tmp_path, shape, [cut, whole]) as (house, provider, model):
        reply = await house.ask(await house.token(), model, stream=True)
        [row] = await house.usage()
    assert "Half of it".startswith(reply.said()[:4]) and reply.said()
    assert reply.comments("error")[0]["reason"] == "PROVIDER_RESPONSE_INVALID", reply.text
    assert reply.events()[-1]["type"] == "error"
    assert not reply.comments("usage")
    assert len(provider.asked) == 1
    assert row.usage.model_calls == 1


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_stall_ends_in_a_timeout(tmp_path: Path, shape: str) -> None:
    whole = SHAPES[shape]("Begun")
    stalled = replace(whole, chunks=whole.chunks[:5], end="stall")
    async with house_before(tmp_path, shape, [stalled], timeout=2) as (house, provider, model):
        reply = await house.ask(await house.token(), model, stream=True)
        await wait_until(lambda: provider.left == 1)
    assert reply.comments("error")[0]["reason"] == "PROVIDER_TIMED_OUT"
    assert reply.said()


@pytest.mark.parametrize("shape", SHAPES)
async def test_silence_before_the_first_byte_is_tried_again(tmp_path: Path, shape: str) -> None:
    silent = Answer((), end="stall")
    script = [silent, SHAPES[shape]("Awake")]
    async with house_before(tmp_path, shape, script, retries=3, timeout=2) as (house, _, model):
        reply = await house.ask(await house.token(), model, stream=True)
    assert reply.said() == "Awake"
    assert "did not answer in time" in reply.comments("retry")[0]["message"]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "garbage",
    [
        bytes_answer(b"<html>503</html>", "text/html"),
        bytes_answer(b"data: {not json\n\n"),
        bytes_answer(b"\x00\xff\xfe\n\n"),
        bytes_answer(b""),
        bytes_answer(b'{"hello": "world"}', "application/json"),
    ],
    ids=["html", "broken-json", "binary", "empty", "other-json"],
)
async def test_garbage_is_a_typed_error(tmp_path: Path, shape: str, stream: bool, garbage: Answer) -> None:
    async with house_before(tmp_path, shape, [garbage], retries=0) as (house, _, model):
        reply = await house.ask(await house.token(), model, stream=stream)
    reason = reply.headers.get("x-pointsman-reason") or reply.comments("error")[0]["reason"]
    assert reason in ("PROVIDER_RESPONSE_INVALID", "PROVIDER_UNAVAILABLE"), reply.text
    assert "Traceback" not in reply.text


async def test_nobody_there_is_a_typed_error(tmp_path: Path) -> None:
    model, environ = behind("anthropic", "http://127.0.0.1:9")
    async with proxy_house(tmp_path, environ, settings(1, 60)) as house:
        reply = await house.ask(await house.token(), model)
    assert (reply.status, reply.headers["x-pointsman-reason"]) == (529, "PROVIDER_UNAVAILABLE")


async def test_a_caller_that_leaves_stops_the_provider_and_is_billed_for_what_came(tmp_path: Path) -> None:
    whole = anthropic_text("A long story", (1000, 9))
    begun = replace(whole, chunks=whole.chunks[:4], end="stall")
    async with house_before(tmp_path, "anthropic", [begun]) as (house, provider, model):
        body = {
            "model": model,
            "max_tokens": 9,
            "stream": True,
            "messages": [{"role": "user", "content": "x"}],
        }
        headers = {"x-api-key": await house.token()}
        async with house.session.post(f"{house.url}/v1/messages", json=body, headers=headers) as response:
            await response.content.readany()
            response.close()
        await wait_until(lambda: provider.left == 1, timeout=60)

        async def billed() -> bool:
            return (await house.usage())[0].usage.model_calls == 1

        await wait_until(billed)
        [row] = await house.usage()
    assert row.usage.input_tokens == 1000
    assert row.usage.output_tokens >= 1


async def test_errors_are_typed_over_grpc(tmp_path: Path) -> None:
    async with house_before(tmp_path, "anthropic", [failing(401, "no such key")]) as (house, _, model):
        request = pb.CreateMessageRequest(
            model=model,
            messages=[pb.LlmMessage(role=pb.MESSAGE_ROLE_USER, content=[pb.ContentBlock(text="Hi")])],
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in house.llm.CreateMessage(request, metadata=house.internal(), timeout=60):
                pass
    failure = Failure.from_rpc_error(caught.value, "llm-proxy")
    assert failure.reason_name == "PROVIDER_CREDENTIAL_REFUSED"
    assert failure.metadata["model"] == model
