"""What a prompt wishes for: a plan of steps, read out of plain English."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from llm_proxy.demo_model import plan
from llm_proxy.demo_model.conversation import Conversation
from llm_proxy.demo_model.plan import Step
from llm_proxy.demo_model.programs import program

_FILE: Final = (
    r"`?(?P<file>(?:[\w.-]+/)*[\w-]*\.?[\w-]+\.[A-Za-z0-9]{1,8}"
    r"|(?:[\w.-]+/)*(?:Makefile|README|Dockerfile))`?"
)
_CALLED: Final = (
    r"(?:(?:a|an|the|new|my|this|that|small|simple|text|python|shell)\s+)*"
    r"(?:(?:file|script|program)\s+)?(?:(?:called|named)\s+)?"
)
_QUOTED: Final = re.compile(r"^[\"'“`](.*)[\"'”`]$", re.DOTALL)
_FENCE: Final = re.compile(r"```[\w+-]*\n(.*?)```", re.DOTALL)
# Longer ones are no wishes that these rules understand, and rules take longer the more there is.
_WISH_LIMIT: Final = 2_000
_FENCE_MARK: Final = "\x00fence\x00"

_VERBS: Final = (
    "create|write|make|add|append|run|execute|read|show|print|cat|list|delete|remove|edit|replace|change|"
    "tell|display|open"
)
_SPLIT: Final = re.compile(
    rf"(?:\s*[,;.]\s*|\s+)(?:and\s+then|then|and\s+finally|finally|after\s+that|afterwards)\s*,?\s+(?=(?:{_VERBS})\b)"
    rf"|\s*,?\s+and\s+(?=(?:{_VERBS})\s)|[.;\n]\s*(?=(?:{_VERBS})\b)|,\s*(?=(?:{_VERBS})\s)",
    re.IGNORECASE,
)
_POLITE: Final = re.compile(
    r"^\s*(please|now|first|next|also|(can|could|would)\s+you(\s+please)?|i\s+want\s+you\s+to)\s*,?\s+",
    re.IGNORECASE,
)

_CREATE: Final = re.compile(
    rf"^(?:create|write|make|add)\s+{_CALLED}{_FILE}\s*(?P<rest>.*)$", re.IGNORECASE | re.DOTALL
)
_WRITE_TO: Final = re.compile(
    rf"^(?:write|put|save)\s+(?P<text>.+?)\s+(?:to|into|in)\s+{_CALLED}{_FILE}\W*$", re.IGNORECASE | re.DOTALL
)
_APPEND: Final = re.compile(
    rf"^(?:append|add)\s+(?:(?:a|the)\s+(?:new\s+)?(?:line|text|words?)\s*)?(?:saying\s+|with\s+)?:?\s*(?P<text>.+?)\s+to\s+(?:the\s+end\s+of\s+)?{_CALLED}{_FILE}\W*$",
    re.IGNORECASE | re.DOTALL,
)
_REPLACE: Final = re.compile(
    rf"^(?:replace|change)\s+(?P<old>.+?)\s+(?:with|to|by|into)\s+(?P<new>.+?)\s+in\s+{_CALLED}{_FILE}\W*$",
    re.IGNORECASE | re.DOTALL,
)
_EDIT: Final = re.compile(
    rf"^(?:edit|change|update|in)\s+{_CALLED}{_FILE}\s*(?:[:,]|so\s+that\s+it|and|by|to)?\s*(?:replac(?:e|ing)|chang(?:e|ing))\s+(?P<old>.+?)\s+(?:with|to|by|into)\s+(?P<new>.+?)\.?$",
    re.IGNORECASE | re.DOTALL,
)
_EDIT_PRINTS: Final = re.compile(
    rf"^(?:edit|change|update|rewrite|modify)\s+{_CALLED}{_FILE}\s*(?P<rest>(?:to|so\s+that\s+it|that)\s+prints?.*)$",
    re.IGNORECASE | re.DOTALL,
)
_RUN_COMMAND: Final = re.compile(
    r"^(?:run|execute|use)\s+(?:the\s+)?(?:(?:shell|bash)\s+)?(?:command\s*)?:?\s*[`](?P<command>[^`]+)[`]",
    re.IGNORECASE,
)
_RUN_PLAIN: Final = re.compile(
    r"^(?:run|execute)\s+(?:the\s+)?(?:(?:shell|bash)\s+)?command:?\s+(?P<command>.+)$",
    re.IGNORECASE | re.DOTALL,
)
_RUN_FILE: Final = re.compile(rf"^(?:run|execute|start)\s+{_CALLED}{_FILE}\W*$", re.IGNORECASE)
_RUN_IT: Final = re.compile(
    r"^(?:run|execute|start|try)\s+(?:it|that|this|the\s+(?:file|script|program))\b.*$", re.IGNORECASE
)
_RUN_WORD: Final = re.compile(
    r"^(?:run|execute)\s+(?P<command>(?:echo|ls|cat|pwd|python3?|sleep|date|whoami|id|env|uname|head|tail|wc|grep|find|mkdir|touch|true|false|sh|bash)\b.*)$",
    re.IGNORECASE | re.DOTALL,
)
_READ: Final = re.compile(
    rf"^(?:read|show|print|cat|display|open|what(?:'s|\s+is)\s+(?:in|inside)|what\s+does|tell\s+me\s+what(?:'s|\s+is)\s+in)\s+(?:me\s+)?(?:the\s+)?(?:contents?\s+of\s+)?{_CALLED}{_FILE}(?:\s+(?:contain|say|back|to\s+me))?\W*$",
    re.IGNORECASE,
)
_READ_IT: Final = re.compile(
    r"^(?:read|show|print|display)\s+(?:me\s+)?(?:it|the\s+file|its\s+contents?)(?:\s+back)?\W*$",
    re.IGNORECASE,
)
_LIST: Final = re.compile(
    r"^(?:list|show|what)\s+(?:me\s+)?(?:are\s+)?(?:all\s+)?(?:the\s+)?(?:files|directory|folder|workspace)\b.*$|^ls\W*$",
    re.IGNORECASE,
)
_DELETE: Final = re.compile(rf"^(?:delete|remove)\s+{_CALLED}{_FILE}\W*$", re.IGNORECASE)


class _Reader:
    """Reads clause by clause; `it` is the file of the clause before."""

    def __init__(self, conversation: Conversation, fences: Sequence[str]) -> None:
        self._directory = conversation.directory
        self._fences = list(fences)
        self._it = _last_file(conversation)
        self._rules: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], list[Step]]], ...] = (
            (_RUN_COMMAND, lambda found: [plan.run(found["command"].strip())]),
            (_RUN_PLAIN, lambda found: [plan.run(_unquoted(found["command"]))]),
            (_REPLACE, self._replace),
            (_EDIT, self._replace),
            (_EDIT_PRINTS, self._create),
            (_APPEND, lambda found: [plan.append(self._name(found), self._text(found["text"]))]),
            (_CREATE, self._create),
            (_WRITE_TO, self._write_to),
            (_RUN_FILE, lambda found: [plan.run_file(self._name(found))]),
            (_RUN_IT, lambda _: [plan.run_file(self._it)] if self._it else []),
            (_RUN_WORD, lambda found: [plan.run(found["command"].strip().rstrip("."))]),
            (_READ, lambda found: [plan.read(self._path(found), self._name(found))]),
            (_READ_IT, self._read_it),
            (_LIST, lambda _: [plan.run("ls -la", "listed the files")]),
            (_DELETE, lambda found: [plan.delete(self._name(found))]),
        )

    def read(self, clause: str) -> list[Step] | None:
        """Return the clause's steps, None when it is not understood."""
        text = _POLITE.sub("", clause).strip()
        for pattern, rule in self._rules:
            found = pattern.match(text)
            if found is not None:
                return rule(found) or None
        return None

    def _name(self, found: re.Match[str]) -> str:
        self._it = found["file"]
        return self._it

    def _path(self, found: re.Match[str]) -> str:
        return self._absolute(self._name(found))

    def _absolute(self, name: str) -> str:
        return posixpath.join(self._directory, name)

    def _create(self, found: re.Match[str]) -> list[Step]:
        name = self._name(found)
        rest = found["rest"].strip()
        content = self._fences.pop(0) if _FENCE_MARK in rest and self._fences else program(name, rest)
        return [plan.create(self._absolute(name), content, name)]

    def _write_to(self, found: re.Match[str]) -> list[Step]:
        name = self._name(found)
        return [plan.create(self._absolute(name), self._text(found["text"]) + "\n", name)]

    def _replace(self, found: re.Match[str]) -> list[Step]:
        path, name = self._path(found), self._name(found)
        old, new = self._text(found["old"]), self._text(found["new"])
        return [plan.read(path, name, shows=False), plan.edit(path, old, new, name)]

    def _read_it(self, _: re.Match[str]) -> list[Step]:
        return [plan.read(self._absolute(self._it), self._it)] if self._it else []

    def _text(self, text: str) -> str:
        return self._fences.pop(0).rstrip("\n") if _FENCE_MARK in text and self._fences else _unquoted(text)


def steps(conversation: Conversation) -> list[Step]:
    """Return the plan for the newest prompt; empty when it wishes for nothing that tools can do."""
    prompt = conversation.current.prompt
    fences = _FENCE.findall(prompt)
    text = _FENCE.sub(_FENCE_MARK, prompt)
    if len(text) > _WISH_LIMIT:
        return []
    reader = _Reader(conversation, fences)
    whole: list[Step] = []
    understood = False
    for clause in _SPLIT.split(_protect(text)):
        found = reader.read(_unprotect(clause))
        if found is None and not understood:
            return []
        understood = True
        whole.extend(found or [])
    return whole


# Commas and `and` inside quotes or backticks do not end a clause.
_INSIDE: Final = re.compile(r"`[^`]*`|\"[^\"]*\"|“[^”]*”")
_HIDDEN: Final[dict[str, str]] = {" ": "\ue000", ",": "\ue001", ".": "\ue002", ";": "\ue003", "\n": "\ue004"}


def _protect(text: str) -> str:
    return _INSIDE.sub(lambda found: _replaced(found[0], _HIDDEN), text)


def _unprotect(text: str) -> str:
    return _replaced(text, {hidden: plain for plain, hidden in _HIDDEN.items()})


def _replaced(text: str, table: Mapping[str, str]) -> str:
    return "".join(table.get(character, character) for character in text)


def _unquoted(text: str) -> str:
    text = text.strip()
    found = _QUOTED.match(text)
    return found[1] if found else text


def _last_file(conversation: Conversation) -> str:
    """Return the file that was last worked on, relative to the directory; empty when there is none."""
    for exchange in reversed(conversation.earlier):
        for use in reversed(exchange.tools):
            path = str(use.input.get("file_path", ""))
            if path:
                return posixpath.relpath(path, conversation.directory)
    return ""
