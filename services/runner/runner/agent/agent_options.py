"""From a turn's options to those of the agent SDK, and to the command line of Claude Code."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from claude_agent_sdk import AgentDefinition, ClaudeAgentOptions
from google.protobuf import json_format
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import turn_pb2
from servicekit.errors import Failure
from servicekit.output_schema import check_schema

from runner.agent.tool_lists import joined
from runner.agent.tools import OFFERED, WITHHELD_AGENTS
from runner.sandboxes.protocol import AGENT_DIR, CLI, HOME

DEFAULT_MAX_TURNS: Final = 10
PROMPT_FILE: Final = f"{AGENT_DIR}/system-prompt"
PermissionModeName = Literal["default", "acceptEdits", "plan"]

_MODES: Final[Mapping[turn_pb2.PermissionMode.ValueType, PermissionModeName]] = {
    turn_pb2.PERMISSION_MODE_DEFAULT: "default",
    turn_pb2.PERMISSION_MODE_ACCEPT_EDITS: "acceptEdits",
    turn_pb2.PERMISSION_MODE_PLAN: "plan",
    # A process takes the CLI's own such mode only at its start. It asks us instead, and is told yes.
    turn_pb2.PERMISSION_MODE_BYPASS_PERMISSIONS: "acceptEdits",
}
BYPASS: Final = turn_pb2.PERMISSION_MODE_BYPASS_PERMISSIONS
_EFFORTS: Final[Mapping[turn_pb2.Effort.ValueType, Literal["low", "medium", "high", "max"]]] = {
    turn_pb2.EFFORT_LOW: "low",
    turn_pb2.EFFORT_MEDIUM: "medium",
    turn_pb2.EFFORT_HIGH: "high",
    turn_pb2.EFFORT_MAX: "max",
}
# In plan mode, Claude Code 2.1.329 lets a model call approve commands in place of a person. See `verdict.py`.
_SETTINGS: Final = {"useAutoModeDuringPlan": False, "disableAutoMode": "disable"}


@dataclass(frozen=True)
class BootOptions:
    """What is fixed when the agent's process starts; another value needs another process.

    Model and permission mode are not here: a running agent changes them between turns.
    """

    max_turns: int = DEFAULT_MAX_TURNS
    allowed_tools: tuple[str, ...] = ()
    disallowed_tools: tuple[str, ...] = ()
    system_prompt: str = ""
    append_system_prompt: str = ""
    output_schema: str = ""
    partial_messages: bool = True
    effort: int = 0
    max_thinking_tokens: int | None = None
    agents: str = ""
    mcp_servers: tuple[str, ...] = ()

    @classmethod
    def of(cls, options: turn_pb2.TurnOptions) -> BootOptions:
        """Read a turn's options; what is unset gets its default."""
        agents = {name: _agent(agent) for name, agent in sorted(options.agents.items())}
        schema = _schema(options)
        return cls(
            max_turns=options.max_turns or DEFAULT_MAX_TURNS,
            allowed_tools=tuple(options.allowed_tools),
            disallowed_tools=tuple(options.disallowed_tools),
            system_prompt=options.system_prompt,
            append_system_prompt=options.append_system_prompt,
            output_schema=schema,
            partial_messages=not options.HasField("include_partial_messages")
            or options.include_partial_messages,
            effort=options.effort,
            max_thinking_tokens=options.max_thinking_tokens
            if options.HasField("max_thinking_tokens")
            else None,
            agents=json.dumps(agents, sort_keys=True) if agents else "",
            mcp_servers=tuple(sorted(options.mcp_servers)),
        )


def permission_mode(options: turn_pb2.TurnOptions) -> PermissionModeName:
    """Return the SDK's name of the turn's mode.

    `verdict` decides about each call. The CLI's mode is what the model is told, and how the CLI's own rules
    decide about calls that are left to them: with a list of allowed tools, by the list alone.
    """
    mode = _MODES.get(options.permission_mode, "acceptEdits")
    listed = options.allowed_tools and options.permission_mode != BYPASS
    return "default" if mode == "acceptEdits" and listed else mode


def sdk_options(
    boot: BootOptions, *, mode: PermissionModeName, mcp_servers: Mapping[str, Any]
) -> ClaudeAgentOptions:
    """Return the SDK's options. Session id, hooks, permissions and transcript are the caller's to add."""
    return ClaudeAgentOptions(
        # Nothing that lies in a workspace configures the agent.
        setting_sources=[],
        strict_mcp_config=True,
        mcp_servers=allowed_servers(boot.mcp_servers, mcp_servers),
        system_prompt=boot.system_prompt or _preset(boot.append_system_prompt),
        max_turns=boot.max_turns,
        permission_mode=mode,
        tools=list(OFFERED),
        settings=json.dumps(_SETTINGS),
        allowed_tools=list(boot.allowed_tools),
        disallowed_tools=[*WITHHELD_AGENTS, *boot.disallowed_tools],
        include_partial_messages=boot.partial_messages,
        effort=_EFFORTS.get(turn_pb2.Effort.ValueType(boot.effort)),
        max_thinking_tokens=boot.max_thinking_tokens,
        output_format={"type": "json_schema", "schema": json.loads(boot.output_schema)}
        if boot.output_schema
        else None,
        agents={name: AgentDefinition(**agent) for name, agent in json.loads(boot.agents or "{}").items()},
        cli_path=CLI,
    )


def environment(model: str) -> dict[str, str]:
    """Return all of the agent's environment. There is no secret in it: the relay adds the token.

    No variable gives a model to sub-agents, to aliases such as `haiku` or to small calls: it would stay when
    the session changes its model. Without them, and with a provider that is not Anthropic's own, Claude Code
    2.1.329 uses the model of the conversation for all of these.
    """
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": HOME,
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "TMPDIR": "/tmp",  # noqa: S108 - the sandbox's own
        "ANTHROPIC_BASE_URL": "http://localhost",
        "ANTHROPIC_UNIX_SOCKET": "/run/agent/llm.sock",
        # The CLI wants one to be there; it is nobody's.
        "ANTHROPIC_AUTH_TOKEN": "none",
        "ANTHROPIC_MODEL": model,
        "CLAUDE_CONFIG_DIR": f"{HOME}/.claude",
        "CLAUDE_CODE_ENTRYPOINT": "sdk-py",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
        # A turn ends with its answer: nothing goes on behind it.
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        "CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS": "1",
        # llm-proxy retries, before the first byte; this is for the way to it.
        "CLAUDE_CODE_MAX_RETRIES": "2",
        "CLAUDE_CODE_SDK_READS_SESSION_STATE": "1",
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": "200000",
        "DISABLE_AUTOUPDATER": "1",
    }


def command_line(options: ClaudeAgentOptions, model: str, *, session_id: str, resume: bool) -> list[str]:
    """Return the command that starts Claude Code with these options. Agents and hooks go over stdin."""
    command = [CLI, "--output-format", "stream-json", "--verbose", "--input-format", "stream-json"]
    command += [f"--resume={session_id}"] if resume else [f"--session-id={session_id}"]
    command += ["--model", model, "--setting-sources=", "--session-mirror", "--strict-mcp-config"]
    command += ["--permission-prompt-tool", "stdio", "--permission-mode", str(options.permission_mode)]
    command += _prompt_flags(options)
    if options.mcp_servers:
        command += ["--mcp-config", json.dumps({"mcpServers": options.mcp_servers})]
    command += ["--max-turns", str(options.max_turns)]
    if isinstance(options.tools, list):
        command += ["--tools", ",".join(options.tools)]
    if options.settings:
        command += ["--settings", options.settings]
    if options.allowed_tools:
        command += ["--allowedTools", joined(options.allowed_tools, "options.allowed_tools")]
    if options.disallowed_tools:
        command += ["--disallowedTools", joined(options.disallowed_tools, "options.disallowed_tools")]
    if options.include_partial_messages:
        command += ["--include-partial-messages"]
    if options.effort:
        command += ["--effort", options.effort]
    if options.max_thinking_tokens is not None:
        command += ["--max-thinking-tokens", str(options.max_thinking_tokens)]
    if options.output_format:
        command += ["--json-schema", json.dumps(options.output_format["schema"])]
    return command


def prompt_file(options: ClaudeAgentOptions) -> str:
    """Return what has to be in PROMPT_FILE, '' for nothing. An argument may have 128 KiB, a prompt more."""
    prompt = options.system_prompt
    if isinstance(prompt, str):
        return prompt
    return str(prompt["append"]) if prompt and prompt["type"] == "preset" and "append" in prompt else ""


def _prompt_flags(options: ClaudeAgentOptions) -> list[str]:
    if not prompt_file(options):
        return []
    own = isinstance(options.system_prompt, str)
    return ["--system-prompt-file" if own else "--append-system-prompt-file", PROMPT_FILE]


def _schema(options: turn_pb2.TurnOptions) -> str:
    schema = json_format.MessageToDict(options.output_schema)
    if not schema:
        return ""
    check_schema(schema)
    return json.dumps(schema, sort_keys=True)


def allowed_servers(names: Sequence[str], allowed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the MCP servers of these names. INVALID_FIELD when the operator does not allow one."""
    unknown = sorted(set(names) - allowed.keys())
    if unknown:
        rule = f"{', '.join(unknown)} is not allowed; this installation has: {', '.join(allowed) or 'none'}"
        raise Failure(
            errors_pb2.ERROR_REASON_INVALID_FIELD,
            f"options.mcp_servers: {rule}",
            fields=[("options.mcp_servers", rule)],
        )
    return {name: allowed[name] for name in names}


def _preset(append: str) -> Any:
    preset = {"type": "preset", "preset": "claude_code"}
    return {**preset, "append": append} if append else preset


def _agent(agent: turn_pb2.AgentDefinition) -> dict[str, Any]:
    definition: dict[str, Any] = {"description": agent.description, "prompt": agent.prompt}
    if agent.tools:
        joined(agent.tools, "options.agents.tools")
        definition["tools"] = list(agent.tools)
    if agent.model and agent.model != "inherit":
        definition["model"] = agent.model
    return definition
