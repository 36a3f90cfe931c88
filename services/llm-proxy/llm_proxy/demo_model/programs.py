"""Small files, written from what they are to do or to hold."""

from __future__ import annotations

import json
import re
import shlex
from typing import Final

_PRINTS: Final = re.compile(
    r"^\W*(?:that|which|to|so\s+that\s+it|it\s+should)?\s*(?:just\s+|only\s+)?prints?\s+(?:out\s+)?(?P<text>.+)$",
    re.IGNORECASE | re.DOTALL,
)
_NUMBERS: Final = re.compile(
    r"^(?:the\s+)?numbers\s+(?:from\s+)?(?P<first>-?\d{1,6})\s+(?:to|through|-)\s+(?P<last>-?\d{1,6})\W*$",
    re.IGNORECASE,
)
_HOLDS: Final = re.compile(
    r"^\W*(?:containing|contains?|holding|saying|that\s+(?:says|contains|holds)|which\s+(?:says|contains|holds)|"
    r"with(?:\s+the)?(?:\s+(?:contents?|text|words?|line))?)\s*(?:of\s+)?:?\s*(?P<text>.+)$",
    re.IGNORECASE | re.DOTALL,
)
_QUOTED: Final = re.compile(r"^[\"'“`](.*?)[\"'”`]\W*$", re.DOTALL)


def program(name: str, wish: str) -> str:
    """Return a file's content, with a newline at its end; empty when nothing is wished for."""
    prints = _PRINTS.match(wish)
    if prints is not None:
        return _printing(name, _plain(prints["text"]))
    holds = _HOLDS.match(wish)
    if holds is not None:
        return _plain(holds["text"]) + "\n"
    return "" if not wish.strip(" .!:") else _plain(wish) + "\n"


def _plain(text: str) -> str:
    text = text.strip()
    quoted = _QUOTED.match(text)
    return quoted[1] if quoted else text.rstrip(".")


def _printing(name: str, text: str) -> str:
    numbers = _NUMBERS.match(text)
    if name.endswith(".py"):
        if numbers is not None:
            bounds = f"{int(numbers['first'])}, {int(numbers['last']) + 1}"
            return f"for number in range({bounds}):\n    print(number)\n"
        return f"print({json.dumps(text, ensure_ascii=False)})\n"
    if name.endswith(".js"):
        return f"console.log({json.dumps(text, ensure_ascii=False)});\n"
    if name.endswith(".sh"):
        command = f"seq {numbers['first']} {numbers['last']}" if numbers else f"echo {shlex.quote(text)}"
        return f"#!/bin/sh\n{command}\n"
    return text + "\n"
