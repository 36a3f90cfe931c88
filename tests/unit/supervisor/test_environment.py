"""Each process gets its own variables and no more."""

from __future__ import annotations

import pytest
from servicekit.starting import GRPC_VARIABLES
from supervisor.environment import ALLOWED, environment, referenced_variables, router_variables

SECRETS = {
    "ANTHROPIC_API_KEY": "llm-proxy",
    "CLAUDE_CODE_OAUTH_TOKEN": "llm-proxy",
    "GROQ_API_KEY": "llm-proxy",
    "AWS_SECRET_ACCESS_KEY": "llm-proxy",
    "API_KEY": "router",
}


@pytest.mark.parametrize(("name", "service"), SECRETS.items())
def test_a_secret_reaches_the_one_service_that_uses_it(name, service):
    given = {other for other in ALLOWED if name in environment(other, {name: "secret"})}
    assert given == {service}


def test_the_database_is_for_those_who_store():
    url = {"DATABASE_URL": "postgresql://u:p@db/x"}
    assert {name for name in ALLOWED if environment(name, url)} == {"router", "session", "llm-proxy"}


@pytest.mark.parametrize(
    "name",
    ["LD_PRELOAD", "POINTSMAN_API_KEY", "PYTHONPATH", "PYTHONSTARTUP", "BASH_ENV", "NODE_OPTIONS", "AWS"],
)
def test_what_can_change_a_program_is_not_passed_on(name):
    assert all(environment(service, {name: "x"}) == {} for service in ALLOWED)


def test_a_model_configuration_may_name_further_variables(tmp_path):
    config = tmp_path / "litellm.yaml"
    config.write_text("api_key: os.environ/MY_COMPANY_TOKEN\napi_base: os.environ/MY_HOST\n")
    names = referenced_variables(config)
    assert names == {"MY_COMPANY_TOKEN", "MY_HOST"}
    assert environment("llm-proxy", {"MY_HOST": "h", "OTHER": "o"}, names) == {"MY_HOST": "h"}
    assert referenced_variables(tmp_path / "none.yaml") == set()


def test_a_router_configuration_may_name_further_variables(tmp_path):
    config = tmp_path / "router.yaml"
    config.write_text("context: [{url: '${ORDERS_URL}', headers: {x: 'Bearer ${ORDERS_TOKEN}'}}]\n")
    assert router_variables(str(config)) == {"ORDERS_URL", "ORDERS_TOKEN"}
    assert router_variables("") == set()


@pytest.mark.parametrize("service", ["router", "session", "runner", "llm-proxy"])
def test_a_service_starts_once(service):
    """Without these variables it would import all that it needs, and then start itself anew with them."""
    assert environment(service, GRPC_VARIABLES) == GRPC_VARIABLES
