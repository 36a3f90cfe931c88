"""Questions whose answer the installation has gathered beforehand: rows, a page, a file."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from llm_proxy.demo_model.conversation import Conversation

_QUESTION: Final = re.compile(r"^\s*(how|what|which|who|when|where|is|are|do|does)\b|\?\s*$", re.IGNORECASE)
_SHOWN: Final = 2000


def told(conversation: Conversation) -> str | None:
    """Answer from what was gathered: the one value that is there, else all of it; None for no question."""
    current = conversation.current
    if not current.gathered or not _QUESTION.search(current.prompt):
        return None
    text = "\n".join(current.gathered)
    value = _only_value(text)
    return value if value is not None else f"This was gathered for your question:\n\n{text[:_SHOWN]}"


def _only_value(text: str) -> str | None:
    """Return the value of a single row with a single column."""
    try:
        row: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(row, dict) and len(row) == 1:
        return str(next(iter(row.values())))
    return None
