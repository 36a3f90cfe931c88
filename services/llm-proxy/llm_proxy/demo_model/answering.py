"""The demo model's answer to a request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from llm_proxy.demo_model import gathered, memory, small_talk
from llm_proxy.demo_model.arithmetic import CannotEvaluateError, evaluate, find_expression
from llm_proxy.demo_model.conversation import Conversation, ToolUse
from llm_proxy.demo_model.plan import Step, read, shown
from llm_proxy.demo_model.schema_fit import fitting
from llm_proxy.demo_model.wishes import steps

# The tool with which Claude Code takes an answer that has to fit a schema.
_STRUCTURED: Final = "StructuredOutput"
# The tool with which a direct answer becomes an agent's.
_HAND_OVER: Final = "start_agent"
# What Claude Code's tools say about a file that they have not seen.
_UNREAD: Final = ("has not been read", "read it first", "Read it again")


@dataclass(frozen=True)
class Answer:
    """A text, or a tool call with a few words before it. `tool` is empty for a text alone."""

    text: str
    tool: str = ""
    input: Mapping[str, Any] | None = None


def answer(conversation: Conversation) -> Answer:
    """Answer the newest prompt, or go on with the plan for it."""
    if conversation.forced_tool and not conversation.current.tools:
        return _forced(conversation, conversation.forced_tool)
    plan = steps(conversation)
    reply = _next(conversation, plan) if plan else Answer(_words(conversation))
    if reply.tool:
        return reply
    if conversation.output_schema is not None:
        return Answer(json.dumps(fitting(conversation.output_schema, reply.text)))
    wants_structure = _STRUCTURED in conversation.tools
    if wants_structure and all(use.name != _STRUCTURED for use in conversation.current.tools):
        return _structured(conversation, _STRUCTURED, reply.text)
    return reply


def _words(conversation: Conversation) -> str:
    """Answer without a tool."""
    prompt = conversation.current.prompt
    background = small_talk.title(conversation) or small_talk.summary(conversation)
    if background is not None:
        return background
    expression = find_expression(prompt)
    if expression is not None:
        try:
            return evaluate(expression)
        except CannotEvaluateError as error:
            return f"I cannot work that out: {error}."
    return (
        gathered.told(conversation)
        or memory.recall(conversation)
        or memory.acknowledge(conversation)
        or small_talk.chat(prompt)
    )


def _forced(conversation: Conversation, tool: str) -> Answer:
    words = (steps(conversation) and conversation.current.prompt) or _words(conversation)
    return _structured(conversation, tool, words)


def _structured(conversation: Conversation, tool: str, words: str) -> Answer:
    value = fitting(conversation.tools.get(tool, {}), words)
    return Answer("", tool, value if isinstance(value, dict) else {})


def _next(conversation: Conversation, plan: list[Step]) -> Answer:
    """Return the next step that is not done, or the report when all are, or one cannot be."""
    done: list[tuple[Step, ToolUse]] = []
    uses = [use for use in conversation.current.tools if use.name != _STRUCTURED]
    # A file is read once before it is written. If the write fails again, the plan ends.
    read_first = False
    for use in uses:
        if len(done) == len(plan):
            break
        step = plan[len(done)]
        if not step.matches(use):
            # A file was read before it is written, which is no step of the plan.
            continue
        if not use.failed:
            done.append((step, use))
            read_first = False
        elif not _wants_reading(use) or read_first:
            return Answer(_report(done, use, step))
        elif use is uses[-1]:
            return _call(conversation, read(step.path, "the file"), "The file exists, so I read it first.")
        else:
            read_first = True
    if len(done) == len(plan):
        return Answer(_report(done))
    return _call(conversation, plan[len(done)], _announced(plan[len(done)], first=not done))


def _wants_reading(use: ToolUse) -> bool:
    return use.failed and any(words.lower() in (use.result or "").lower() for words in _UNREAD)


def _call(conversation: Conversation, step: Step, words: str) -> Answer:
    if step.tool not in conversation.tools and _HAND_OVER in conversation.tools:
        return Answer("", _HAND_OVER, {"reason": f"It takes the tool {step.tool}."})
    if step.tool not in conversation.tools:
        offered = ", ".join(sorted(conversation.tools)) or "none"
        return Answer(f"For that I need the tool {step.tool}, which I am not given here (tools: {offered}).")
    return Answer(words, step.tool, step.input)


def _announced(step: Step, *, first: bool) -> str:
    doing = {
        "Write": "write the file",
        "Read": "read the file",
        "Edit": "edit the file",
        "Bash": "run the command",
    }
    return f"I will {doing[step.tool]}." if first else f"Now I {doing[step.tool]}."


def _report(done: list[tuple[Step, ToolUse]], failed: ToolUse | None = None, step: Step | None = None) -> str:
    """Say what was done, with the output of what shows something."""
    said = [step.said for step, _ in done if step.said]
    parts = []
    if said:
        sentence = said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"
        parts.append(f"I {sentence}.")
    for done_step, use in done:
        if done_step.shows:
            text = shown(use)
            parts.append(
                f"{_intro(done_step)}\n\n```\n{text}\n```" if text.strip() else "It printed nothing."
            )
    if failed is not None and step is not None:
        parts.append(f"Then a step failed ({step.tool}):\n\n```\n{shown(failed)}\n```")
    return "\n\n".join(parts)


def _intro(step: Step) -> str:
    return "It holds:" if step.tool == "Read" else "It printed:"
