"""What the demo model says when no rule applies, and to requests that agents make in the background."""

from __future__ import annotations

import re
from typing import Final

from llm_proxy.demo_model.conversation import Conversation

WHAT_I_CAN_DO: Final = (
    "I am Pointsman's offline demo model: rules, not a language model. I can do arithmetic (`What is "
    "17*23?`), create, read, edit, append to and delete files (`Create hello.py that prints hello world, "
    "then run it`), run commands (``run `ls -la` ``), list files, and tell what was said before in this "
    "conversation. For anything else, start Pointsman with a provider's key, such as GROQ_API_KEY, "
    "OPENROUTER_API_KEY or ANTHROPIC_API_KEY."
)

_SAY: Final = re.compile(
    r"^(?:please\s+)?(?:say|repeat|echo|(?:answer|reply|respond)(?:\s+(?:only|just|exactly))?\s+with(?:\s+(?:only|just|exactly))?)"
    r"(?:\s+(?:the\s+words?|exactly|just|only))*\s*:?\s+(?P<text>.+)$",
    re.IGNORECASE | re.DOTALL,
)
_GREETING: Final = re.compile(
    r"^(hi|hello|hey|good\s+(morning|day|evening)|moin)\b[^?]{0,40}$", re.IGNORECASE
)
_THANKS: Final = re.compile(r"^(thanks|thank\s+you)\b.{0,40}$", re.IGNORECASE)
_TITLE: Final = re.compile(r"\btitle\b", re.IGNORECASE)
_SUMMARY: Final = re.compile(
    r"\b(create|write|provide)\b.{0,40}\bsummary\b.{0,80}\bconversation\b", re.IGNORECASE | re.DOTALL
)
_TITLE_WORDS: Final = 7
_TITLE_LIMIT: Final = 500
_CHAT_LIMIT: Final = 2_000
# Where agents put such a wish, in the longest instructions that they have.
_SUMMARY_LIMIT: Final = 20_000


def title(conversation: Conversation) -> str | None:
    """Return a title for the conversation when a background request asks for one, else None."""
    if conversation.tools or not _TITLE.search(conversation.system):
        return None
    words = re.sub(r"\s+", " ", conversation.current.prompt[:_TITLE_LIMIT]).strip(" .?!").split(" ")
    return " ".join(words[:_TITLE_WORDS])[:60]


def summary(conversation: Conversation) -> str | None:
    """Return a summary when the prompt asks for the conversation's, else None."""
    if not _SUMMARY.search(conversation.current.prompt[:_SUMMARY_LIMIT]):
        return None
    lines = [f'- The user asked: "{exchange.prompt[:500]}"' for exchange in conversation.earlier]
    return "\n".join(["Summary of the conversation so far:", *lines])


def chat(prompt: str) -> str:
    """Answer what no rule is for."""
    prompt = prompt.strip()[:_CHAT_LIMIT]
    said = _SAY.match(prompt)
    if said is not None:
        return said["text"].strip().strip("\"'“”`").rstrip(".") or WHAT_I_CAN_DO
    if _GREETING.match(prompt):
        return f"Hello! {WHAT_I_CAN_DO}"
    if _THANKS.match(prompt):
        return "You are welcome."
    return f"I cannot answer that. {WHAT_I_CAN_DO}"
