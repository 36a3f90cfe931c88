"""A scripted model that does what a prompt says: a prompt is a list of steps, and so is that of a sub-agent.

    house.run(session, do([call("Write", ...)], [sub_agent([call("Bash", ...)], "done")], "All done."))

A step is a list of calls that are made at once, or a text that ends the turn. What comes next is read off the
conversation, so the model keeps nothing, and sub-agents can run side by side.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from support.scripted_anthropic import Reply

Call = Mapping[str, Any]
Step = str | Sequence[Call]


def do(*steps: Step) -> str:
    """Return the prompt for these steps."""
    return "DO:" + json.dumps(steps)


def call(name: str, /, **tool_input: Any) -> Call:
    """A call of a tool."""
    return {"type": "tool_use", "name": name, "input": tool_input}


def bash(command: str, **more: Any) -> Call:
    """A call of Bash."""
    return call("Bash", command=command, description="Run", **more)


def sub_agent(*steps: Step, kind: str = "general-purpose", **more: Any) -> Call:
    """A call of a sub-agent that does these steps."""
    return call("Agent", description="Help", prompt=do(*steps), subagent_type=kind, **more)


def scripted_steps(body: Mapping[str, Any]) -> Reply:
    """The script for ScriptedAnthropic."""
    steps: Sequence[Step] = []
    taken = 0
    for message in body["messages"]:
        if message["role"] == "assistant":
            taken += 1
        for text in _texts(message) if message["role"] == "user" else ():
            if "DO:[" in text:
                steps, taken = json.JSONDecoder().raw_decode(text.split("DO:", 1)[1])[0], 0
    step = steps[taken] if taken < len(steps) else "Done."
    return Reply.text(step) if isinstance(step, str) else Reply(tuple(step))


def _texts(message: Mapping[str, Any]) -> list[str]:
    content = message["content"]
    if isinstance(content, str):
        return [content]
    return [block["text"] for block in content if block.get("type") == "text"]
