"""A model that nobody knows the price of: free without a budget, refused with one, as the operator wants."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pointsman.llm.v1 import model_service_pb2 as models_pb
from support.llm_proxy_house import Reply, behind, proxy_house
from support.scripted_openai import ScriptedUpstream, anthropic_text, failing, scripted_upstream

UNPRICED = "anthropic/claude-not-yet"
PRICED = "anthropic/claude-sonnet-4-5"
MODELS = """
model_list:
  - model_name: anthropic/*
    litellm_params: {model: anthropic/*, api_base: os.environ/ANTHROPIC_API_BASE}
"""
BUDGET = "pointsman_settings: {budgets: [{scope: tenant, limit_usd: 1}]}\n"
FREE = "pointsman_settings: {unpriced: free, budgets: [{scope: tenant, limit_usd: 1}]}\n"
OWN_PRICE = """
  - model_name: anthropic/claude-not-yet
    litellm_params: {model: anthropic/claude-not-yet, api_base: os.environ/ANTHROPIC_API_BASE}
    model_info: {input_cost_per_token: 0.000001, output_cost_per_token: 0.000002}
"""


@pytest.fixture
async def provider() -> AsyncIterator[ScriptedUpstream]:
    async with scripted_upstream([anthropic_text("Hi", (1000, 50))]) as scripted:
        yield scripted


def assert_refused(reply: Reply) -> None:
    assert (reply.status, reply.headers["x-pointsman-reason"]) == (403, "MODEL_UNPRICED")
    message = reply.json["error"]["message"]
    assert UNPRICED in message
    assert "input_cost_per_token" in message and "pointsman_settings.unpriced" in message


async def test_a_turn_with_a_budget_is_refused_and_one_without_is_not(
    tmp_path: Path, provider: ScriptedUpstream
) -> None:
    _, environ = behind("anthropic", provider.url)
    async with proxy_house(tmp_path, environ, MODELS) as house:
        assert_refused(await house.ask(await house.token(max_budget_usd=5), UNPRICED, stream=True))
        assert provider.asked == []
        assert (await house.ask(await house.token(max_budget_usd=5), PRICED, stream=True)).status == 200
        assert (await house.ask(await house.token(), UNPRICED, stream=True)).said() == "Hi"
        rows = await house.usage(models_pb.USAGE_DIMENSION_MODEL)
    assert {row.model: row.usage.cost_usd for row in rows} == {UNPRICED: 0, PRICED: pytest.approx(0.00375)}


@pytest.mark.parametrize(
    ("models", "status", "cost"),
    [(MODELS + BUDGET, 403, None), (MODELS + FREE, 200, 0), (MODELS + OWN_PRICE + BUDGET, 200, 0.0011)],
)
async def test_under_an_operators_budget_it_is_as_the_operator_wants(
    tmp_path: Path, provider: ScriptedUpstream, models: str, status: int, cost: float | None
) -> None:
    _, environ = behind("anthropic", provider.url)
    async with proxy_house(tmp_path, environ, models) as house:
        reply = await house.ask(await house.token(), UNPRICED, stream=True)
        rows = await house.usage()
    assert reply.status == status
    if cost is None:
        assert_refused(reply)
        assert [row.usage.model_calls for row in rows] in ([], [0])
    else:
        assert rows[0].usage.cost_usd == pytest.approx(cost)


async def test_no_fallback_without_a_price_takes_over_under_a_budget(tmp_path: Path) -> None:
    settings = (
        "router_settings: {num_retries: 0, "
        f"fallbacks: [{{anthropic/claude-sonnet-4-5: [{UNPRICED}, demo/offline]}}]}}\n"
    )
    async with scripted_upstream([failing(500)]) as provider:
        _, environ = behind("anthropic", provider.url)
        async with proxy_house(tmp_path, environ, MODELS + settings) as house:
            reply = await house.ask(await house.token(max_budget_usd=5), PRICED, "What is 2+2?", stream=True)
    assert reply.said() == "4"
    assert [asked.body["model"] for asked in provider.asked] == ["claude-sonnet-4-5"]


async def test_the_catalogue_says_which_models_have_a_price(
    tmp_path: Path, provider: ScriptedUpstream
) -> None:
    _, environ = behind("anthropic", provider.url)
    async with proxy_house(tmp_path, environ) as house:
        listed = await house.models.ListModels(
            models_pb.ListModelsRequest(), metadata=house.public(), timeout=60
        )
    priced = {model.name: model.priced for model in listed.models}
    assert priced[PRICED] and priced["demo/offline"] and priced["groq/openai/gpt-oss-120b"]
    assert not priced["openrouter/qwen/qwen3-coder"]
