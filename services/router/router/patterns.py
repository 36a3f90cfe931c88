"""Regular expressions of the operator's, on prompts of anybody's."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    return pattern


Pattern = Annotated[str, AfterValidator(_compiles)]
"""A regular expression; one that is none is a mistake in the configuration."""

# A pattern that backtracks must not meet a megabyte.
_LOOKED_AT: Final = 16_384


def found(pattern: str, prompt: str) -> bool:
    """Whether the pattern is found in the prompt's first 16,384 characters, in any case."""
    return re.compile(pattern, re.IGNORECASE).search(prompt, 0, _LOOKED_AT) is not None
