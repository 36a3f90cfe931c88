"""Prices come from LiteLLM's table or the operator, and sums are exact."""

from __future__ import annotations

import os
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_proxy.ledger.money import dollars, pico
from llm_proxy.messages.usage import TokenUsage
from llm_proxy.prices import ModelPrice, Prices


@pytest.fixture(scope="module")
def prices() -> Prices:
    return Prices.from_litellm()


@pytest.mark.parametrize(
    "model",
    ["anthropic/claude-sonnet-4-5", "groq/openai/gpt-oss-120b", "groq/openai/gpt-oss-20b", "openai/gpt-4o"],
)
@pytest.mark.parametrize("usage", [TokenUsage(1000, 50), TokenUsage(1000, 50, 400), TokenUsage(1, 1, 1, 0)])
def test_a_call_costs_what_litellm_says(prices: Prices, model: str, usage: TokenUsage) -> None:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    litellm = pytest.importorskip("litellm")
    theirs = litellm.cost_per_token(
        model=model,
        prompt_tokens=usage.input_tokens + usage.cache_read_tokens,
        completion_tokens=usage.output_tokens,
        cache_read_input_tokens=usage.cache_read_tokens,
        cache_creation_input_tokens=0,
    )
    assert dollars(prices.of(model, {}).cost(usage)) == pytest.approx(sum(theirs), rel=1e-9)


def test_the_operators_price_goes_before_the_table(prices: Prices) -> None:
    info = {"input_cost_per_token": 0.5, "max_input_tokens": 99}
    price = prices.of("anthropic/claude-sonnet-4-5", info)
    assert (price.input, price.context_window) == (pico(Decimal("0.5")), 99)
    assert price.output == pico(Decimal("0.000015"))


def test_a_model_that_nobody_knows_costs_nothing_and_says_so(prices: Prices) -> None:
    price = prices.of("groq/moonshotai/not-yet", {})
    assert (price.cost(TokenUsage(10**6, 10**6)), price.known, price.context_window) == (0, False, 0)


@pytest.mark.parametrize("model", ["ollama_chat/anything", "hosted_vllm/own", "ollama_chat/llama3"])
def test_a_model_on_a_server_of_ones_own_is_free_unless_it_has_a_price(prices: Prices, model: str) -> None:
    price = prices.of(model, {})
    assert (price.cost(TokenUsage(10**6, 10**6)), price.known) == (0, True)
    assert prices.of(model, {"output_cost_per_token": 1}).output == pico(Decimal(1))


def test_a_price_of_nothing_is_a_price(prices: Prices) -> None:
    assert prices.of("groq/moonshotai/not-yet", {"input_cost_per_token": 0}).known


def test_another_providers_model_of_the_same_name_is_not_taken(prices: Prices) -> None:
    assert not prices.of("openrouter/claude-sonnet-4-5", {}).known


@given(st.lists(st.integers(0, 10**6), max_size=200))
def test_sums_of_costs_are_exact(tokens: list[int]) -> None:
    price = ModelPrice(input=pico(Decimal("3.75e-8")))
    total = sum(price.cost(TokenUsage(count)) for count in tokens)
    assert total == price.cost(TokenUsage(sum(tokens)))


@given(st.integers(1, 10**6), st.integers(1, 10**5), st.integers(0, 10**5))
def test_what_is_set_aside_covers_a_call_of_that_size(size: int, most: int, written: int) -> None:
    price = ModelPrice(input=3, output=15, cache_read=1, cache_write=4)
    usage = TokenUsage(size // 4, min(written, most))
    assert price.most(size, most) >= price.cost(usage)
