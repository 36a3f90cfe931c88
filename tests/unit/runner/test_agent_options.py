"""The command line of the agent is the one that the SDK itself would build."""

from __future__ import annotations

import pytest
from claude_agent_sdk import ClaudeAgentOptions
from claude_agent_sdk._internal.transport.subprocess_cli import SubprocessCLITransport
from pointsman.session.v1 import turn_pb2
from runner.agent.agent_options import (
    PROMPT_FILE,
    BootOptions,
    command_line,
    environment,
    permission_mode,
    sdk_options,
)
from runner.sandboxes.protocol import CLI

SESSION = "6f1a3b1e-0000-4000-8000-000000000001"


def options_of(turn: turn_pb2.TurnOptions) -> ClaudeAgentOptions:
    servers = {"echo": {"command": "echo"}}
    return sdk_options(BootOptions.of(turn), mode=permission_mode(turn), mcp_servers=servers)


def words(command: list[str]) -> set[tuple[str, ...]]:
    """Return a command's flags with their values, whatever their order."""
    found: list[list[str]] = []
    for word in command[1:]:
        if word.startswith("--"):
            found.append(word.split("=", 1))
        else:
            found[-1].append(word)
    return {tuple(flag) for flag in found}


EVERYTHING = turn_pb2.TurnOptions(
    max_turns=3,
    permission_mode=turn_pb2.PERMISSION_MODE_PLAN,
    allowed_tools=["Read", "Bash(ls:*)"],
    disallowed_tools=["WebFetch"],
    effort=turn_pb2.EFFORT_HIGH,
    max_thinking_tokens=1000,
    mcp_servers=["echo"],
)
EVERYTHING.output_schema.update({"type": "object"})


@pytest.mark.parametrize("turn", [turn_pb2.TurnOptions(), EVERYTHING], ids=["nothing", "everything"])
@pytest.mark.parametrize("resume", [False, True])
def test_it_has_the_flags_of_the_sdks_own(turn: turn_pb2.TurnOptions, resume: bool) -> None:
    options = options_of(turn)
    ours = words(command_line(options, "m", session_id=SESSION, resume=resume))
    options.model = "m"
    options.permission_prompt_tool_name = "stdio"
    options.session_store = object()  # type: ignore[assignment]
    setattr(options, "resume" if resume else "session_id", SESSION)
    transport = SubprocessCLITransport(prompt="", options=options)
    assert transport._cli_path == CLI
    assert ours == words(transport._build_command())


def test_prompts_go_by_file_because_an_argument_is_too_small() -> None:
    own = options_of(turn_pb2.TurnOptions(system_prompt="x" * 200_000))
    flags = words(command_line(own, "m", session_id="s", resume=False))
    assert ("--system-prompt-file", PROMPT_FILE) in flags
    more = options_of(turn_pb2.TurnOptions(append_system_prompt="x" * 200_000))
    flags = words(command_line(more, "m", session_id="s", resume=False))
    assert ("--append-system-prompt-file", PROMPT_FILE) in flags


def test_no_variable_fixes_a_model_that_the_session_may_change() -> None:
    variables = environment("groq/llama")
    models = {name: value for name, value in variables.items() if "MODEL" in name}
    assert models == {"ANTHROPIC_MODEL": "groq/llama"}
    assert not [name for name in variables if "API_KEY" in name]


def test_two_turns_that_say_the_same_share_a_boot() -> None:
    defaults = turn_pb2.TurnOptions(max_turns=10, include_partial_messages=True)
    assert BootOptions.of(turn_pb2.TurnOptions()) == BootOptions.of(defaults)
    assert BootOptions.of(defaults) != BootOptions.of(turn_pb2.TurnOptions(max_turns=11))
    # Those can be changed in a running one.
    plan = turn_pb2.TurnOptions(permission_mode=turn_pb2.PERMISSION_MODE_PLAN)
    assert BootOptions.of(plan) == BootOptions.of(turn_pb2.TurnOptions())
