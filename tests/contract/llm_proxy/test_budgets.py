"""Money: set aside before a call, settled after it, never overspent by more than one call."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pointsman.llm.v1 import model_service_pb2 as models_pb
from support.llm_proxy_house import ProxyHouse, Reply, behind, proxy_house
from support.scripted_openai import anthropic_text, scripted_upstream

# $3 for a million tokens in, $15 for a million out: this answer costs $0.00375.
TOKENS = (1000, 50)
COST = 0.00375

MODELS = """
model_list:
  - model_name: anthropic/claude-sonnet-4-5
    litellm_params: {model: anthropic/claude-sonnet-4-5, api_base: os.environ/ANTHROPIC_API_BASE}
pointsman_settings:
  budgets:
"""

MODEL = "anthropic/claude-sonnet-4-5"


def refused(replies: list[Reply]) -> list[Reply]:
    return [reply for reply in replies if reply.status != 200]


async def many(house: ProxyHouse, token: str, count: int) -> list[Reply]:
    return list(await asyncio.gather(*(house.ask(token, MODEL, stream=True) for _ in range(count))))


async def test_of_fifty_parallel_calls_with_budget_for_one_one_is_made(tmp_path: Path) -> None:
    async with scripted_upstream([anthropic_text("Hi", TOKENS)]) as provider:
        _, environ = behind("anthropic", provider.url)
        async with proxy_house(tmp_path, environ) as house:
            # A call may cost up to $0.0017 by its size and max_tokens; less than that is left.
            token = await house.token(max_budget_usd=0.001)
            replies = await many(house, token, 50)
            [row] = await house.usage()
    assert len(provider.asked) == 1
    assert len(refused(replies)) == 49
    for reply in refused(replies):
        assert (reply.status, reply.headers["x-pointsman-reason"]) == (403, "BUDGET_EXCEEDED")
        assert reply.json["error"]["type"] == "permission_error"
        assert "$0.001" in reply.json["error"]["message"]
    assert row.usage.cost_usd == pytest.approx(COST, abs=1e-12)
    assert row.usage.model_calls == 1


async def test_a_turn_stops_when_its_budget_is_spent(tmp_path: Path) -> None:
    async with scripted_upstream([anthropic_text("Hi", TOKENS)]) as provider:
        _, environ = behind("anthropic", provider.url)
        async with proxy_house(tmp_path, environ) as house:
            token = await house.token(max_budget_usd=0.01)
            statuses = [(await house.ask(token, MODEL, stream=True)).status for _ in range(5)]
    # Three calls cost $0.01125: the third began with something left.
    assert statuses == [200, 200, 200, 403, 403]


async def test_who_has_spent_its_budget_may_not_count_tokens_either(tmp_path: Path) -> None:
    counted = {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}
    async with scripted_upstream([anthropic_text("Hi", TOKENS)]) as provider:
        _, environ = behind("anthropic", provider.url)
        async with proxy_house(
            tmp_path, environ, f"{MODELS}    - {{scope: tenant, limit_usd: 0.003}}\n"
        ) as house:
            headers = {"x-api-key": await house.token()}
            before = await house.post("/v1/messages/count_tokens", counted, headers)
            await house.ask(await house.token(), MODEL, stream=True)
            after = await house.post("/v1/messages/count_tokens", counted, headers)
            other = {"x-api-key": await house.token(tenant="globex")}
            others = await house.post("/v1/messages/count_tokens", counted, other)
    assert before.headers.get("x-pointsman-reason") != "BUDGET_EXCEEDED"
    assert (after.status, after.headers["x-pointsman-reason"]) == (403, "BUDGET_EXCEEDED")
    assert others.headers.get("x-pointsman-reason") != "BUDGET_EXCEEDED"
    # The refused one never reached the provider.
    assert [asked.path.partition("?")[0] for asked in provider.asked].count("/v1/messages/count_tokens") == 2


@pytest.mark.parametrize(
    ("budget", "shared"),
    [
        ("{scope: tenant, period: daily, limit_usd: 0.005}", {"tenant": "acme"}),
        ("{scope: tenant, tenant: acme, period: total, limit_usd: 0.005}", {"tenant": "acme"}),
        ("{scope: account, period: monthly, limit_usd: 0.005}", {"tenant": "acme"}),
        ("{scope: session, limit_usd: 0.005}", {"tenant": "acme", "session": "sessions/one"}),
    ],
)
async def test_an_operators_budget_holds_for_its_scope_and_no_other(
    tmp_path: Path, budget: str, shared: dict[str, Any]
) -> None:
    async with scripted_upstream([anthropic_text("Hi", TOKENS)]) as provider:
        _, environ = behind("anthropic", provider.url)
        async with proxy_house(tmp_path, environ, f"{MODELS}    - {budget}\n") as house:
            statuses = [
                (await house.ask(await house.token(**shared), MODEL, stream=True)).status for _ in range(3)
            ]
            other = await house.ask(
                await house.token(tenant="globex", session="sessions/two"), MODEL, stream=True
            )
    assert statuses == [200, 200, 403]
    assert other.status == 200


async def test_what_was_spent_counts_after_a_restart_and_for_a_budget_that_comes_later(
    tmp_path: Path,
) -> None:
    async with scripted_upstream([anthropic_text("Hi", TOKENS)]) as provider:
        _, environ = behind("anthropic", provider.url)
        async with proxy_house(tmp_path, environ) as house:
            assert (await house.ask(await house.token(), MODEL, stream=True)).status == 200
        later = f"{MODELS}    - {{scope: tenant, limit_usd: 0.003}}\n"
        async with proxy_house(tmp_path, environ, later) as house:
            assert (await house.ask(await house.token(), MODEL, stream=True)).status == 403


async def test_a_failed_call_gives_its_reservation_back(tmp_path: Path) -> None:
    environ = {"ANTHROPIC_API_KEY": "sk-ant-test-0123456", "ANTHROPIC_API_BASE": "http://127.0.0.1:9"}
    models = MODELS.replace("pointsman_settings", "router_settings: {num_retries: 0}\npointsman_settings")
    async with proxy_house(
        tmp_path, environ, f"{models}    - {{scope: tenant, limit_usd: 0.0001}}\n"
    ) as house:
        token = await house.token()
        reasons = [(await house.ask(token, MODEL)).headers["x-pointsman-reason"] for _ in range(3)]
    assert reasons == ["PROVIDER_UNAVAILABLE"] * 3


async def test_usage_is_grouped_by_every_dimension_and_hidden_from_other_tenants(tmp_path: Path) -> None:
    async with scripted_upstream([anthropic_text("Hi", TOKENS)]) as provider:
        _, environ = behind("anthropic", provider.url)
        async with proxy_house(tmp_path, environ) as house:
            for session in ("sessions/one", "sessions/two", "sessions/two"):
                token = await house.token(session=session, turn=f"{session}/turns/x")
                await house.ask(token, MODEL, stream=True)
            await house.ask(await house.token(tenant="globex"), "demo/offline")
            everything = [1, 2, 3, 4, 5, 6]
            rows = await house.usage(*everything)
            [one] = await house.usage(session="sessions/one")
            [other] = await house.usage(models_pb.USAGE_DIMENSION_MODEL, tenant="globex")
    assert [(row.session, row.usage.model_calls) for row in rows] == [
        ("sessions/one", 1),
        ("sessions/two", 2),
    ]
    assert {(row.account, row.turn[-8:], row.model, row.provider) for row in rows} == {
        ("main", "/turns/x", MODEL, "anthropic")
    }
    assert all(len(row.day) == 10 for row in rows)
    assert one.usage.model_calls == 1
    assert one.mean_latency_seconds >= one.mean_first_token_seconds > 0
    assert other.model == "demo/offline"
