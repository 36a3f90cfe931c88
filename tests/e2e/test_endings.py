"""How a model's answer can end, at every kind of provider and in both routes: what callers are told, what is
charged, and that the session goes on.

Real edge, services, agents and LiteLLM; only the providers are scripted.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import event_pb2, turn_pb2
from pointsman_client import Client
from support import scripted_endings
from support.scripted_endings import FINE, HALF, NEXT, PREFIX
from support.shell_clients import curl_json
from support.suite import Suite, running

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]

PROVIDERS = ("anthropic", "openai", "groq", "openrouter")
ROUTES = {"agent": turn_pb2.TURN_ROUTE_AGENT, "direct": turn_pb2.TURN_ROUTE_DIRECT}
INPUT_PRICE, OUTPUT_PRICE = 0.000001, 0.00001

# Where every model has a price, so that what is charged can be seen.
MODELS = """
model_list:
{models}
router_settings: {{num_retries: 1, timeout: 60, disable_cooldowns: true}}
"""
MODEL = """\
  - model_name: {provider}/*
    litellm_params: {{model: {provider}/*, api_base: "{url}", api_key: scripted}}
    model_info: {{input_cost_per_token: 0.000001, output_cost_per_token: 0.00001}}
"""


@dataclass(frozen=True)
class Ending:
    """A way to end, and what becomes of it. `reason` is empty for success."""

    kind: str
    reason: str = ""
    result: str | None = HALF
    """The turn's result; None where it differs by route. An agent tries to go on, and says more than once."""
    providers: tuple[str, ...] = PROVIDERS
    estimated: bool = False
    charged: bool = True


ENDINGS = (
    Ending("complete"),
    Ending("output-limit", "OUTPUT_TOKENS_REACHED", None),
    Ending("empty-limit", "OUTPUT_TOKENS_REACHED", ""),
    Ending("cut-call", "OUTPUT_TOKENS_REACHED", ""),
    Ending("refusal", "MODEL_REFUSED", None),
    Ending("context-window", "CONTEXT_TOO_LONG", None, ("anthropic",)),
    Ending("pause", "ANSWER_INCOMPLETE", providers=("anthropic",)),
    Ending("too-long", "CONTEXT_TOO_LONG", "", charged=False),
    Ending("policy", "MODEL_REFUSED", "", charged=False),
    Ending("no-usage", estimated=True),
    Ending("cut-at-the-end", providers=("anthropic",)),
    Ending("error-within", "PROVIDER_UNAVAILABLE", None, ("anthropic",), estimated=True),
    Ending(
        "error-within", "PROVIDER_RESPONSE_INVALID", None, ("openai", "groq", "openrouter"), estimated=True
    ),
)
CASES = [
    pytest.param(ending, provider, route, id=f"{ending.kind}-{provider}-{route}")
    for ending, route in itertools.product(ENDINGS, ROUTES)
    for provider in ending.providers
]


@dataclass(frozen=True)
class House:
    """An installation whose providers are scripted, and a caller."""

    suite: Suite
    client: Client


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    path = tmp_path_factory.mktemp("models") / "llm.yaml"
    with (
        scripted_endings.served(scripted_endings.anthropic) as anthropic,
        scripted_endings.served(scripted_endings.openai) as openai,
    ):
        path.write_text(configuration(anthropic.url, f"{openai.url}/v1"))
        environ = {"POINTSMAN_LLM_CONFIG": str(path), "MODEL": "demo/offline", "POINTSMAN_POOL_SIZE": "0"}
        with running(environ) as suite, Client(suite.url, suite.key) as client:
            yield House(suite, client)


def configuration(anthropic: str, openai: str) -> str:
    entries = [
        MODEL.format(provider=provider, url=anthropic if provider == "anthropic" else openai)
        for provider in PROVIDERS
    ]
    return MODELS.format(models="".join(entries))


@pytest.mark.parametrize(("ending", "provider", "route"), CASES)
def test_an_ending_is_typed_charged_and_leaves_a_session_that_goes_on(
    house: House, ending: Ending, provider: str, route: str
) -> None:
    model = f"{provider}/{PREFIX}{ending.kind}.{provider}"
    # A call that is cut is made again until the turns are used up.
    options = turn_pb2.TurnOptions(max_turns=2 if ending.kind == "cut-call" else 10)
    run = list(house.client.run_turn("Tell me", model=model, route=ROUTES[route], options=options))
    finished = run[-1].turn_finished
    reason = errors_pb2.ErrorReason.Name(finished.error.reason).removeprefix("ERROR_REASON_")
    assert (reason if finished.HasField("error") else "") == ending.reason, finished
    assert finished.outcome == (
        turn_pb2.TURN_STATE_FAILED if ending.reason else turn_pb2.TURN_STATE_SUCCEEDED
    )
    check_result(ending, run, finished)
    check_charged(house, ending, run[0].turn, finished)
    # What a reason becomes over REST is the same for all providers.
    if route == "direct" or provider in ("anthropic", "openai") or os.environ.get("CHAOS_FULL"):
        check_rest(house, ending, model, route)

    session = "/".join(run[0].turn.split("/")[:2])
    after = list(house.client.run_turn(NEXT, model=model, route=ROUTES[route], session=session))
    assert after[-1].turn_finished.outcome == turn_pb2.TURN_STATE_SUCCEEDED, after[-1].turn_finished
    assert after[-1].turn_finished.result == FINE


def check_result(ending: Ending, run: list[event_pb2.Event], finished: turn_pb2.TurnFinished) -> None:
    """What came is the result and in the log; the agent's own error messages are in neither."""
    said = "".join(event.assistant_message.text for event in run if event.HasField("assistant_message"))
    assert finished.result == said
    if ending.result is None:
        assert (said and said == HALF * (len(said) // len(HALF))) or HALF.startswith(said)
    else:
        assert said == ending.result
    for advice in ("CLAUDE_CODE", "try again", "Try again", "API Error", "/compact"):
        assert advice not in finished.error.message


def check_charged(house: House, ending: Ending, turn: str, finished: turn_pb2.TurnFinished) -> None:
    usage = finished.usage
    answer = httpx.get(
        f"{house.suite.url}/v1/usage",
        params={"turn": turn},
        headers={"authorization": f"Bearer {house.suite.key}"},
        timeout=60,
        trust_env=False,
    ).json()
    [row] = answer["rows"]
    if not ending.charged:
        assert usage.cost_usd == row["usage"].get("costUsd", 0) == 0
        return
    estimated = int(row["usage"].get("estimatedCalls", 0))
    if ending.reason.startswith("PROVIDER"):
        # Of an answer that broke off, only the ledger knows what came; nothing, if the error came with it.
        assert (estimated > 0) == (row["usage"].get("costUsd", 0) > 0)
        return
    cost = usage.input_tokens * INPUT_PRICE + usage.output_tokens * OUTPUT_PRICE
    assert usage.cost_usd == pytest.approx(cost) == pytest.approx(row["usage"]["costUsd"])
    assert usage.input_tokens > 0 and usage.output_tokens > 0
    assert (estimated > 0) == ending.estimated == (usage.estimated_calls > 0), answer


def check_rest(house: House, ending: Ending, model: str, route: str) -> None:
    body = {
        "query": "Tell me",
        "model": model,
        "route": f"TURN_ROUTE_{route.upper()}",
        "options": {"maxTurns": 2},
    }
    status, answer = curl_json(f"{house.suite.url}/query", body, key=house.suite.key)
    if not ending.reason:
        assert status == 200
        assert answer["response"] == HALF
        return
    assert status == (503 if ending.reason.startswith("PROVIDER") else 400), answer
    assert answer["details"][0]["reason"] == ending.reason, answer
