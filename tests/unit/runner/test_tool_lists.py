"""One item of a list of tools is one item for the CLI, too."""

from __future__ import annotations

import pytest
from pointsman.session.v1 import turn_pb2
from runner.agent.tool_lists import joined, split
from servicekit.errors import Failure
from servicekit.interceptors.requests import check

ONE = [
    "Read",
    "mcp__docs__search",
    "mcp__docs__*",
    "Bash(git log:*)",
    "Bash(git commit -m 'a, b':*)",
    "Bash(echo (a, b))",
    "Bash(echo (a)(b))",
    "Edit(/docs/**/*.md)",
    "WebFetch(domain:example.com)",
    "Bash(größe)",
]
SEVERAL = [
    "Read,Bash",
    "Read Bash",
    "Read, Bash",
    "Read\tBash",
    "Read\nBash",
    " Bash",
    "Bash ",
    "Read,",
    ",Bash",
    "Read(a),Bash",
    "Read(a) Bash",
    "Read(a) Bash(b)",
    "Read(x(y) Bash)",
    "Read(x\\) Bash)",
    "Read(a",
    "Read)",
    "Read()",
    "Read(a)Bash",
    "(Bash)",
    "--model",
    "!Bash",
    "Read\u00a0Bash",
    "Read\ufeffBash",
    "Read\0Bash",
    "Read(a\nb)",
    "",
    ",",
]


@pytest.mark.parametrize("item", ONE)
def test_one_item(item):
    assert split(item) == [item]
    assert joined(["Read", item], "options.allowed_tools") == f"Read,{item}"
    assert split(f"Read,{item},Grep") == ["Read", item, "Grep"]
    check(options(item))


@pytest.mark.parametrize("item", SEVERAL)
@pytest.mark.parametrize("field", ["allowed_tools", "disallowed_tools", "agents"])
def test_several_items(item, field):
    with pytest.raises(Failure) as raised:
        check(options(item, field))
    assert raised.value.reason_name == "INVALID_FIELD"
    assert raised.value.fields[0][0].startswith(field)


@pytest.mark.parametrize(
    "item", [item for item in SEVERAL if split(item) != [item] or not item.isprintable()]
)
def test_it_is_checked_once_more_where_the_command_is_made(item):
    with pytest.raises(Failure) as raised:
        joined(["Read", item], "options.allowed_tools")
    assert raised.value.reason_name == "INVALID_FIELD"
    assert raised.value.fields[0][0] == "options.allowed_tools[1]"
    assert "Bash(git log:*)" in raised.value.message


@pytest.mark.parametrize("name", ["a b", "a,b", "", "-x", "../x", "a\nb", 'a"b', "x" * 65, "{x}", "a/b"])
def test_names_of_agents(name):
    bad = turn_pb2.TurnOptions()
    bad.agents[name].CopyFrom(turn_pb2.AgentDefinition(description="x", prompt="x"))
    with pytest.raises(Failure):
        check(bad)


@pytest.mark.parametrize("model", ["-m", "a b", "a/../b", "a//b", "a?b", "a\nb", "--model=x"])
def test_models_of_agents(model):
    bad = turn_pb2.TurnOptions()
    bad.agents["reviewer"].CopyFrom(turn_pb2.AgentDefinition(description="x", prompt="x", model=model))
    with pytest.raises(Failure):
        check(bad)


@pytest.mark.parametrize("server", ["a,b", "", "a\nb", "x" * 129])
def test_names_of_mcp_servers(server):
    with pytest.raises(Failure):
        check(turn_pb2.TurnOptions(mcp_servers=[server]))


def options(item: str, field: str = "allowed_tools") -> turn_pb2.TurnOptions:
    made = turn_pb2.TurnOptions()
    if field == "agents":
        made.agents["reviewer"].CopyFrom(
            turn_pb2.AgentDefinition(description="x", prompt="x", tools=[item], model="openrouter/a/b:free")
        )
    else:
        getattr(made, field).append(item)
    return made
