"""The models' configuration: LiteLLM's files work, and what would not be honoured is refused by its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from llm_proxy.configuration.models import ModelsConfiguration, read_models
from llm_proxy.configuration.secrets import Secrets
from servicekit.config import ConfigError

SHIPPED = Path(__file__).parents[3] / "deploy" / "litellm.yaml"

SEEDS = """
model_list:
  - model_name: openrouter/*
    litellm_params:
      model: openrouter/*
      api_base: https://openrouter.ai/api/v1

  - model_name: groq/*
    litellm_params:
      model: groq/*
      api_base: https://api.groq.com/openai/v1

router_settings:
  routing_strategy: 'least-busy'
  enable_loadbalancing: true
  retry_policy:
    max_retries: 3
    timeout: 30
    exponential_backoff: true
"""

ONE = "model_list:\n  - model_name: a\n    litellm_params: {model: openai/a}\n"


def read(directory: Path, text: str, **environ: str) -> ModelsConfiguration:
    path = directory / "models.yaml"
    path.write_text(text)
    return read_models(path, Secrets(environ))


def test_the_shipped_file_has_the_models_of_the_picker_and_every_wildcard() -> None:
    models = read_models(SHIPPED, Secrets({}))
    groups = [deployment.group for deployment in models.deployments]
    assert groups[:7] == [
        "groq/openai/gpt-oss-120b",
        "groq/openai/gpt-oss-20b",
        "groq/moonshotai/kimi-k2-instruct",
        "openrouter/z-ai/glm-4.5-air",
        "openrouter/z-ai/glm-4.5",
        "openrouter/qwen/qwen3-coder",
        "anthropic/claude-sonnet-4-5",
    ]
    assert groups[7:] == ["groq/*", "openrouter/*", "anthropic/*", "openai/*", "ollama_chat/*"]
    assert (models.routing.strategy, models.routing.timeout) == ("least-busy", 30)
    assert models.routing.retries.retries("unavailable") == 3
    # A server of one's own needs no key.
    assert [deployment.missing for deployment in models.deployments][-1] == ()


def test_another_ones_retry_policy_is_translated(tmp_path: Path) -> None:
    routing = read(tmp_path, SEEDS).routing
    assert (routing.retries.default, routing.retries.exponential, routing.timeout) == (3, True, 30)


def test_litellms_own_retry_policy_is_kept_by_kind(tmp_path: Path) -> None:
    policy = "{RateLimitErrorRetries: 5, BadRequestErrorRetries: 1}"
    text = f"{ONE}router_settings: {{num_retries: 2, retry_policy: {policy}}}\n"
    retries = read(tmp_path, text).routing.retries
    kinds = ("rate", "request", "timeout", "credential")
    assert [retries.retries(kind) for kind in kinds] == [5, 1, 2, 0]


def test_references_and_usual_variables_are_resolved_and_hidden(tmp_path: Path) -> None:
    text = (
        "model_list:\n"
        "  - model_name: a\n"
        "    litellm_params: {model: openai/a, api_key: os.environ/MINE, api_base: os.environ/NOT_SET}\n"
        "  - {model_name: b, litellm_params: {model: groq/b}}\n"
        "  - {model_name: c, litellm_params: {model: openai/c, api_key: os.environ/NOT_SET}}\n"
        "  - {model_name: d, litellm_params: {model: anthropic/d}}\n"
    )
    models = read(tmp_path, text, MINE="secret-of-mine", GROQ_API_KEY="secret-of-groq")
    a, b, c, d = models.deployments
    assert a.params == {"api_key": "secret-of-mine"}
    assert b.params == {"api_key": "secret-of-groq"}
    assert (c.missing, d.missing) == (("NOT_SET",), ("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"))
    assert "secret" not in repr(models)


def test_an_api_key_goes_before_an_oauth_token(tmp_path: Path) -> None:
    both = {"ANTHROPIC_API_KEY": "sk-ant-api", "CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-x"}
    text = "model_list:\n  - {model_name: anthropic/*, litellm_params: {model: anthropic/*}}\n"
    assert read(tmp_path, text, **both).deployments[0].params["api_key"] == "sk-ant-api"


def test_budgets_are_read_with_periods_as_others_spell_them(tmp_path: Path) -> None:
    entry = "{scope: account, period: daily, limit_usd: 0.1, tenant: t}"
    [budget] = read(tmp_path, f"{ONE}pointsman_settings:\n  budgets: [{entry}]\n").money.budgets
    assert (budget.scope, budget.period, budget.limit, budget.tenant) == ("account", "day", 10**11, "t")


@pytest.mark.parametrize(
    ("text", "line", "complaint"),
    [
        ("", 1, "must be a mapping"),
        ("model_list: [\n", 2, "not YAML"),
        ("models: []\n", 1, "models: is not a section"),
        ("router_settings: {}\n", 1, "model_list: must be a list of models"),
        ("model_list:\n  - litellm_params: {model: openai/a}\n", 2, "must be a model's name"),
        (
            "model_list:\n  - model_name: a\n    litellm_params:\n      model: gpt\n",
            4,
            "must name its provider",
        ),
        (
            "model_list:\n  - model_name: a/*\n    litellm_params: {model: openai/a}\n",
            2,
            "must both be wildcards",
        ),
        (f"{ONE}    extra: 1\n", 4, "is not part of a model"),
        (
            f"{ONE}router_settings:\n  routing_strategy: latency-based-routing\n",
            5,
            "must be one of simple-shuffle",
        ),
        (f"{ONE}router_settings:\n  num_retries: many\n", 5, "must be a whole number"),
        (f"{ONE}router_settings:\n  timeout: 0\n", 5, "must be more than 0"),
        (f"{ONE}router_settings:\n  retry_policy:\n    jitter: 1\n", 6, "is not part of a retry policy"),
        (f"{ONE}router_settings:\n  redis_host: x\n", 5, "share the ledger in DATABASE_URL"),
        (f"{ONE}router_settings:\n  fallbacks:\n    - groq/*: [a]\n", 6, "a wildcard never matches here"),
        (f"{ONE}router_settings:\n  fallbacks: [{{a: [b]}}]\n", 4, "leads to the model b"),
        (f"{ONE}litellm_settings:\n  success_callback: [langfuse]\n", 5, "would send prompts elsewhere"),
        (f"{ONE}litellm_settings:\n  set_verbose: true\n", 5, "would log prompts"),
        (f"{ONE}litellm_settings:\n  cache_params:\n    type: redis\n", 6, "must be local"),
        (f"{ONE}litellm_settings:\n  unheard_of: 1\n", 5, "is not a setting that Pointsman honours"),
        (f"{ONE}pointsman_settings:\n  unpriced: maybe\n", 5, "must be one of refuse, free"),
        (f"{ONE}pointsman_settings:\n  budgets:\n    - scope: planet\n", 6, "must be one of turn"),
        (
            f"{ONE}pointsman_settings:\n  budgets:\n    - {{scope: turn, limit_usd: -1}}\n",
            6,
            "must be more than 0",
        ),
    ],
)
def test_what_is_wrong_is_named_with_file_and_line(
    tmp_path: Path, text: str, line: int, complaint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(f"POINTSMAN_LLM_CONFIG: {tmp_path}/models.yaml:{line}: "), message
    assert complaint in message


def test_settings_of_litellms_own_server_are_ignored_aloud(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read(tmp_path, f"{ONE}general_settings: {{master_key: sk-1234}}\n").deployments
    out = capsys.readouterr()
    assert "general_settings" in out.out + out.err
    assert "sk-1234" not in out.out + out.err
