"""What providers say in errors, in their own words, as what can be done about it.

There is no standard for it: the same fault comes as another text from each server. The wordings here are
those of Anthropic, OpenAI, Azure, OpenRouter, Groq, Cerebras, Gemini, Bedrock, Mistral, xAI, Moonshot,
DashScope, Zhipu, Together, Cohere, vLLM, SGLang, TGI, llama.cpp, Ollama and LM Studio. All texts are compared
in lower case.
"""

from __future__ import annotations

import re
from typing import Final

_CONTEXT: Final = re.compile(
    r"""
    prompt\ (?:is\ )?too\ (?:long|large) | input\ is\ too\ (?:long|large)
    | prompt\ contains\ .*too\ large\ for
    | context[ _-]?length[ _-]?exceeded | exceed_context_size
    | max(?:imum)?\ (?:\w+\ )?(?:context|prompt|input|sequence|model)[ _-]?(?:length|window|size|limit)
    | max_model_len | model's\ context\ length
    | (?:exceed\w*|longer\ than|larger\ than|greater\ than|more\ than|overflows?)\W[^.;]{0,60}
      \bcontext\ ?(?:length|window|size|limit)?\b
    | context\ (?:window|length|size|limit)[^.;]{0,40}(?:exceed|full|overflow)
    | too\ many\ (?:input\ |prompt\ )?tokens(?!,\ please\ wait|\ per)
    | (?:input|prompt)\ tokens?\b[^.;]{0,60}(?:exceed|limit|maximum)
    | (?:input|prompt)\ token\ (?:count|length)[^;]{0,60}(?:exceed|too\ long)
    | tokens\ in\ the\ prompt[^.;]{0,20}exceed
    | exceeds?\ the\ maximum\ number\ of\ tokens | exceeded\ model\ token\ limit
    | tokens\ in\ request\ more\ than\ max | must\ have\ less\ than\ \d+\ tokens
    | number\ of\ tokens\ in\ the\ prompt\ cannot\ exceed | `inputs`\ tokens\ \+
    | prompt\ exce+ds\ max | range\ of\ input\ length | only\ supports\ up\ to\ \d+
    | reduce\ (?:the\ length\ of\ )?(?:the|your)\ (?:messages?|prompt|input|message\ size)\b
    | request\ too\ large\ for | input\ length\ and\ `?max_tokens
    """,
    re.VERBOSE,
)
_NOT_CONTEXT: Final = ("string too long", "expected maxlength")

_POLICY: Final = re.compile(
    r"""
    content[ _](?:policy|management\ policy|filter\w*|moderation) | policy_violation | flagged
    | requires\ moderation | responsible\ ?ai | prohibited_content
    | blocked\ (?:by|due\ to)\ .*(?:safety|policy) | data_inspection_failed
    | inappropriate\ content | usage\ polic(?:y|ies)
    """,
    re.VERBOSE,
)

_IMAGE: Final = re.compile(r"image|vision|multi-?modal|picture|media[ _]type|mime")
_DOCUMENT: Final = re.compile(r"pdf|document|file|mime|media[ _]type")
# What servers say whose model of a message has no place for anything but text.
_TEXT_ONLY: Final = re.compile(
    r"must be a? ?string|expected (?:a )?(?:`text`|string)|valid string|invalid content type|input_text"
    r"|content type .* (?:not|un)supported|only .{0,20}text|not a string|can only be text"
)

# Each with the numbers that are in it: the answer may have `limit`, or what `window` leaves beside `used`.
_MOST_OUTPUT: Final = (
    re.compile(r"max_tokens: \d+ > (?P<limit>\d+)"),
    re.compile(r"at most (?P<limit>\d+) (?:completion|output) tokens"),
    re.compile(
        r"max_(?:completion_)?tokens\W{1,4}(?:must|should|has to) be (?:less than or equal to|at most|<=|no "
        r"(?:more|greater) than)\W{1,3}(?P<limit>\d+)"
    ),
    re.compile(r"range of max_tokens should be \[\d+, ?(?P<limit>\d+)\]"),
    re.compile(r"exceed context limit: (?P<used>\d+) \+ \d+ > (?P<window>\d+)"),
    re.compile(
        r"max_(?:completion_)?tokens.{0,30}too large: \d+\. this model's maximum context length is "
        r"(?P<window>\d+) tokens and your request has (?P<used>\d+) input tokens"
    ),
    re.compile(
        r"maximum context length is (?P<window>\d+) tokens.{0,12}you requested (?:about )?\d+ tokens "
        r"\((?P<used>\d+) (?:in the messages|of text input|in your prompt|input)"
    ),
)
# With less the answer would be cut at once; a shorter conversation is what helps.
_LEAST_OUTPUT: Final = 512
_COUNT: Final = re.compile(r"\d{3,9}")
_LIMIT: Final = re.compile(r"(?:maximum [a-z ]{0,30}(?:length|size|window)|limit) ?(?:is|of|:)? ?(\d{3,9})")
_THOUSANDS: Final = re.compile(r"(?<=\d),(?=\d{3}\b)")


def is_context(words: str) -> bool:
    """Whether it says that the prompt is longer than the model reads."""
    return _CONTEXT.search(words) is not None and not any(other in words for other in _NOT_CONTEXT)


def is_policy(words: str) -> bool:
    """Whether it says that the content is refused for what it says."""
    return _POLICY.search(words) is not None


def refused_media(words: str, present: frozenset[str]) -> str:
    """Return which of the kinds in the request, `image` and `document`, is refused; empty for none."""
    if "document" in present and _DOCUMENT.search(words) and "image" not in words:
        return "document"
    if "image" in present and (_IMAGE.search(words) or _TEXT_ONLY.search(words)):
        return "image"
    textual = _TEXT_ONLY.search(words) or _IMAGE.search(words)
    return "document" if "document" in present and textual else ""


def refuses_thinking(words: str) -> bool:
    """Whether it says that the field that holds earlier thinking is not known."""
    return any(name in words for name in ("reasoning_content", "thinking_blocks", "reasoning_details"))


def most_output(words: str) -> int:
    """Return how many tokens the answer may have, when more were asked for; 0 for any other error."""
    plain = _THOUSANDS.sub("", words)
    for pattern in _MOST_OUTPUT:
        found = pattern.search(plain)
        if found is not None:
            numbers = {name: int(value) for name, value in found.groupdict().items()}
            most = numbers.get("limit") or numbers["window"] - numbers["used"]
            return most if most >= _LEAST_OUTPUT else 0
    return 0


def token_counts(words: str) -> tuple[int, int] | None:
    """Return the tokens of the prompt and the limit, as far as an error about its length tells both."""
    plain = _THOUSANDS.sub("", words.lower())
    counts = sorted({int(count) for count in _COUNT.findall(plain)}, reverse=True)
    named = _LIMIT.search(plain)
    limit = int(named[1]) if named is not None else next(iter(counts[1:]), 0)
    return (counts[0], limit) if limit and counts[0] > limit else None
