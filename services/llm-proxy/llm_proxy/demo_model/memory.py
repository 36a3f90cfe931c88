"""What the demo model remembers: only what is in the conversation that comes with the request."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from typing import Final

from llm_proxy.demo_model.conversation import Conversation

# People ask and tell in a few words; rules take longer the more there is.
_PROMPT_LIMIT: Final = 400

_MY_FACT: Final = re.compile(
    r"\bmy\s+(?P<what>(?:\w+\s+){0,3}?\w+)\s+is\s+(?P<value>[^.!?\n]{1,200}?)(?=\s+and\b|[.!?,\n]|$)",
    re.IGNORECASE,
)
_ASKS_FACT: Final = re.compile(
    r"\b(?:what(?:'s|\s+is|\s+was)|tell\s+me|say|do\s+you\s+(?:remember|know))\s+my\s+(?P<what>(?:\w+\s+){0,3}?\w+)\s*[?.!]*$",
    re.IGNORECASE,
)
_REMEMBER: Final = re.compile(
    r"\bremember\s+(?:that\s+|this:?\s+|the\s+)?(?P<what>[^?\n]{1,400})", re.IGNORECASE
)
_ASKS_REMEMBERED: Final = re.compile(
    r"\bwhat\b.*\b(?:(?:asked?|told?|tell)\s+you\s+to\s+remember|(?:did|do)\s+you\s+remember|should\s+you\s+remember)",
    re.IGNORECASE,
)
_ASKS_FIRST: Final = re.compile(
    r"\b(what|which)\b.*\bfirst\b.*|\bwhat\s+did\s+(?:i|we)\b.*\bfirst\b", re.IGNORECASE
)
_ASKS_BEFORE: Final = re.compile(
    r"\b(what|which)\b.*\b(did\s+(i|we)|have\s+(i|we)|was\s+my|were\s+my|my\s+(last|previous|earlier))\b"
    r".*|\bwhat\s+.*\b(before|earlier|previously|just\s+now|last\s+time)\b|\bdo\s+you\s+remember\b",
    re.IGNORECASE,
)
_ASKS_FILES: Final = re.compile(
    r"\b(what|which)\b.*\bfiles?\b.*\b(did|have|has|was|were|you|we|i)\b.*\b(creat|wr[io]t|ma[kd]e|edit|chang|work)",
    re.IGNORECASE,
)
_ASKS_OUTPUT: Final = re.compile(r"\bwhat\b.*\b(print(ed)?|output|result)\b", re.IGNORECASE)


def recall(conversation: Conversation) -> str | None:
    """Answer a question about the conversation, None when the prompt is no such question."""
    prompt = conversation.current.prompt
    if len(prompt) > _PROMPT_LIMIT:
        return None
    rules: tuple[tuple[re.Pattern[str], Callable[[Conversation, re.Match[str]], str]], ...] = (
        (_ASKS_REMEMBERED, _remembered),
        (_ASKS_FACT, _fact),
        (_ASKS_FILES, _files),
        (_ASKS_FIRST, _first),
        (_ASKS_BEFORE, _before),
        (_ASKS_OUTPUT, _output),
    )
    for pattern, answer in rules:
        found = pattern.search(prompt)
        if found is not None:
            return answer(conversation, found)
    return None


def acknowledge(conversation: Conversation) -> str | None:
    """Answer a prompt that tells something to remember, None when it tells nothing."""
    prompt = conversation.current.prompt[:_PROMPT_LIMIT]
    fact = _MY_FACT.search(prompt)
    if fact is not None:
        return f"I will remember that your {fact['what'].lower()} is {fact['value'].strip()}."
    told = _REMEMBER.search(prompt)
    return f"I will remember: {told['what'].strip(' .')}." if told is not None else None


def _fact(conversation: Conversation, asked: re.Match[str]) -> str:
    wanted = asked["what"].lower()
    for exchange in reversed(conversation.earlier):
        for found in _MY_FACT.finditer(exchange.prompt[:_PROMPT_LIMIT]):
            if found["what"].lower() == wanted:
                return f"Your {wanted} is {found['value'].strip()}."
    return f"You have not told me your {wanted} in this conversation."


def _remembered(conversation: Conversation, _: re.Match[str]) -> str:
    for exchange in reversed(conversation.earlier):
        found = _REMEMBER.search(exchange.prompt[:_PROMPT_LIMIT])
        if found is not None:
            return f"You asked me to remember: {found['what'].strip(' .')}."
    return "You have not asked me to remember anything in this conversation."


def _first(conversation: Conversation, _: re.Match[str]) -> str:
    if not conversation.earlier:
        return "This is the first thing you ask me in this conversation."
    return f'The first thing you asked was: "{conversation.earlier[0].prompt}"'


def _before(conversation: Conversation, _: re.Match[str]) -> str:
    if not conversation.earlier:
        return "You have not asked me anything before this in this conversation."
    last = conversation.earlier[-1]
    answer = f'\nI answered: "{last.answer}"' if last.answer else ""
    return f'Before this you asked: "{last.prompt}"{answer}'


def _files(conversation: Conversation, _: re.Match[str]) -> str:
    names = {
        posixpath.relpath(str(use.input["file_path"]), conversation.directory): None
        for exchange in conversation.earlier
        for use in exchange.tools
        if use.name in ("Write", "Edit") and "file_path" in use.input and not use.failed
    }
    return (
        f"Files of this conversation: {', '.join(names)}."
        if names
        else "I have written no file in this conversation."
    )


def _output(conversation: Conversation, _: re.Match[str]) -> str:
    for exchange in reversed(conversation.earlier):
        for use in reversed(exchange.tools):
            if use.name == "Bash" and use.result is not None:
                return f"`{use.input.get('command', '')}` gave:\n\n{use.result.strip()}"
    if conversation.earlier:
        return f'My last answer was: "{conversation.earlier[-1].answer}"'
    return "I have run nothing in this conversation."
