"""What is measured of calls, by model and deployment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, generate_latest
from support.llm_proxy_house import CANARY, proxy_house
from support.scripted_openai import anthropic_text, failing, scripted_upstream

PRICE = "{input_cost_per_token: 0.000003, output_cost_per_token: 0.000015}"


def models(bad: str, good: str) -> str:
    """A models' file with two deployments of the model `measured`, of which the first fails."""
    entries = "".join(
        f"  - model_name: measured\n    model_info: {PRICE}\n"
        f"    litellm_params: {{model: anthropic/m, api_base: '{url}', api_key: {CANARY}, order: {order}}}\n"
        for order, url in ((1, bad), (2, good))
    )
    entries += f"  - model_name: broken\n    litellm_params: {{model: anthropic/b, api_base: '{bad}'}}\n"
    settings = "router_settings: {allowed_fails: 0, cooldown_time: 60, num_retries: 3}\n"
    return f"model_list:\n{entries}{settings}litellm_settings: {{cache: true}}\n"


@pytest.fixture
def grown() -> Callable[..., float]:
    """How far a metric has grown since the test began: other tests of the process count, too."""
    before = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
    }

    def growth(name: str, **labels: str) -> float:
        now = REGISTRY.get_sample_value(f"pointsman_llm_{name}", labels) or 0.0
        return now - before.get((f"pointsman_llm_{name}", tuple(sorted(labels.items()))), 0.0)

    return growth


async def test_every_metric_is_kept_by_model_and_deployment(
    tmp_path: Path, grown: Callable[..., float]
) -> None:
    async with (
        scripted_upstream([failing(529), failing(400)]) as bad,
        scripted_upstream([anthropic_text("Hi", (1000, 50))]) as good,
        proxy_house(tmp_path, {"ANTHROPIC_API_KEY": CANARY}, models(bad.url, good.url)) as house,
    ):
        token = await house.token()
        for _ in range(4):
            assert (await house.ask(token, "measured", stream=True)).said() == "Hi"
        for _ in range(2):
            assert (await house.ask(token, "measured", "Again", stream=True, temperature=0)).said() == "Hi"
        assert (await house.ask(token, "acme/none")).status == 404
        assert (await house.ask(token, "broken")).status == 400
        small = await house.token(max_budget_usd=0.001)
        statuses = [(await house.ask(small, "measured", stream=True)).status for _ in range(2)]
    assert statuses == [200, 403]
    assert (len(bad.asked), len(good.asked)) == (2, 6)
    place = {"model": "measured", "deployment": "measured#2"}
    failed = {"model": "measured", "deployment": "measured#1"}
    assert grown("calls_total", **place, reason="OK") == 6
    assert grown("tokens_total", **place, kind="input") == 6000
    assert grown("tokens_total", **place, kind="output") == 300
    assert grown("cost_usd_total", **place) == pytest.approx(6 * 0.00375)
    assert grown("call_seconds_count", **place) == grown("first_token_seconds_count", **place) == 6
    assert grown("call_seconds_sum", **place) >= grown("first_token_seconds_sum", **place) > 0
    assert grown("retries_total", **failed, kind="unavailable") == 1
    assert grown("cooldowns_total", **failed) == 1
    assert grown("cache_hits_total", model="measured") == 1
    assert grown("refusals_total", reason="MODEL_UNKNOWN") == 1
    assert grown("refusals_total", reason="BUDGET_EXCEEDED") == 1
    reason = "PROVIDER_REQUEST_REFUSED"
    assert grown("calls_total", model="broken", deployment="broken#1", reason=reason) == 1
    assert grown("refusals_total", reason=reason) == 0
    assert CANARY not in generate_latest().decode()
