"""Several places for one model: calls are spread, failures avoided, fallbacks take over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from support.llm_proxy_house import proxy_house
from support.scripted_openai import Answer, anthropic_text, failing, openai_text, scripted_upstream

SHAPES: dict[str, Callable[..., Answer]] = {"openai": openai_text, "anthropic": anthropic_text}
STRATEGIES = ("simple-shuffle", "least-busy")


def two(shape: str, first: str, second: str, settings: str) -> str:
    """A models' file with two deployments of the model `pair` and one of `spare`."""
    suffix = "/v1" if shape == "openai" else ""
    entries = "".join(
        f"  - model_name: {name}\n"
        f"    litellm_params: {{model: {shape}/some-model, api_base: '{url}{suffix}', api_key: sk-ant-k}}\n"
        for name, url in (("pair", first), ("pair", second), ("spare", second))
    )
    return f"model_list:\n{entries}router_settings: {{{settings}}}\n"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_with_one_deployment_failing_no_request_fails(
    tmp_path: Path, shape: str, strategy: str
) -> None:
    async with scripted_upstream([failing(500)]) as bad, scripted_upstream([SHAPES[shape]("Good")]) as good:
        models = two(
            shape, bad.url, good.url, f"routing_strategy: {strategy}, cooldown_time: 60, allowed_fails: 0"
        )
        async with proxy_house(tmp_path, {}, models) as house:
            token = await house.token()
            replies = [await house.ask(token, "pair", stream=True) for _ in range(12)]
    assert [reply.said() for reply in replies] == ["Good"] * 12
    # After its first failure it rests, and is not asked again.
    assert len(bad.asked) <= 1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_both_deployments_are_used_when_both_work(tmp_path: Path, shape: str, strategy: str) -> None:
    async with (
        scripted_upstream([SHAPES[shape]("One")]) as one,
        scripted_upstream([SHAPES[shape]("Two")]) as two_,
    ):
        models = two(shape, one.url, two_.url, f"routing_strategy: {strategy}")
        async with proxy_house(tmp_path, {}, models) as house:
            token = await house.token()
            replies = await asyncio.gather(*(house.ask(token, "pair", stream=True) for _ in range(40)))
    assert {reply.said() for reply in replies} == {"One", "Two"}
    # Of forty that are dealt by chance, one in a hundred million times somebody gets fewer.
    assert len(one.asked) >= 4 and len(two_.asked) >= 4


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_fallback_takes_over_and_is_billed_under_its_own_name(tmp_path: Path, shape: str) -> None:
    async with scripted_upstream([failing(500)]) as bad, scripted_upstream([SHAPES[shape]("Spare")]) as good:
        models = two(shape, bad.url, bad.url, "num_retries: 1, fallbacks: [{pair: [spare]}]").replace(
            f"'{bad.url}{'/v1' if shape == 'openai' else ''}', api_key: sk-ant-k}}\nrouter",
            f"'{good.url}{'/v1' if shape == 'openai' else ''}', api_key: sk-ant-k}}\nrouter",
        )
        async with proxy_house(tmp_path, {}, models) as house:
            reply = await house.ask(await house.token(), "pair", stream=True)
            [row] = await house.usage(4)
    assert reply.said() == "Spare"
    assert reply.comments("usage")[0]["model"] == "spare"
    assert row.model == "spare"
    assert row.retries >= 1


async def test_a_refused_request_is_tried_nowhere_else(tmp_path: Path) -> None:
    async with scripted_upstream([failing(400)]) as one, scripted_upstream([failing(400)]) as two_:
        models = two("anthropic", one.url, two_.url, "default_fallbacks: [spare]")
        async with proxy_house(tmp_path, {}, models) as house:
            reply = await house.ask(await house.token(), "pair")
    assert reply.status == 400
    assert len(one.asked) + len(two_.asked) == 1


async def test_a_context_that_is_too_long_goes_to_its_own_fallback(tmp_path: Path) -> None:
    long = failing(400, "prompt is too long: 250000 tokens > 200000 maximum")
    async with scripted_upstream([long]) as small, scripted_upstream([anthropic_text("Read")]) as large:
        models = two(
            "anthropic", small.url, large.url, "context_window_fallbacks: [{pair: [spare]}]"
        ).replace(
            f"model_name: pair\n    litellm_params: {{model: anthropic/some-model, api_base: '{large.url}'",
            f"model_name: pair\n    litellm_params: {{model: anthropic/some-model, api_base: '{small.url}'",
        )
        async with proxy_house(tmp_path, {}, models) as house:
            reply = await house.ask(await house.token(), "pair", stream=True)
    assert reply.said() == "Read"
