"""Logs: one JSON object per line on stderr, with nothing in it that opens a door."""

from __future__ import annotations

import logging
import re
import sys
from functools import lru_cache
from typing import Any, Final

import structlog
from structlog.typing import EventDict, Processor

from servicekit.context import current_call

REDACTED: Final = "[redacted]"
_SECRET: Final = re.compile(
    r"(^|[._-])(authorization|cookie|credential|key|passport|passwd|password|secret|token)s?($|[._-])"
    r"|api_?key",
    re.IGNORECASE,
)
# Names and ids of secrets are none: `credential_id`.
_HARMLESS: Final = re.compile(r"_(id|name)$", re.IGNORECASE)
# Secrets that have a form of their own, wherever they stand: in a message, in a traceback.
_SECRET_TEXT: Final = re.compile(
    r"Bearer\s+\S+|\bsk-[\w-]{8,}|\beyJ[\w-]{5,}\.[\w-]+\.[\w-]+"
    # Our own: API keys and session tokens.
    r"|\bp(?:m|st)_[\w-]{16,}"
)


def redact(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Replace secrets: the values of keys that look like one, at any depth, and texts in the form of one."""
    return {key: without_secrets(key, value) for key, value in event.items()}


# Names are those in the code: a few dozen. What callers make up must not stay.
@lru_cache(maxsize=512)
def looks_secret(name: str) -> bool:
    """Whether the value under this name is probably a secret: `api_key` is, `key_id` is not."""
    return bool(_SECRET.search(name)) and not _HARMLESS.search(name)


def without_secrets(key: str, value: Any) -> Any:
    """Return a copy of the value under this name, with every secret in it replaced."""
    # A number under such a name counts something: `input_tokens`.
    if isinstance(value, (bool, int, float)) or not value:
        return value
    if looks_secret(key):
        return REDACTED
    if isinstance(value, str):
        return _SECRET_TEXT.sub(REDACTED, value)
    if isinstance(value, dict):
        return {inner: without_secrets(str(inner), item) for inner, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [without_secrets("", item) for item in value]
    return value


def _add_call(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Tie a line that is written while a call is served to that call."""
    call = current_call()
    if call is not None:
        event.setdefault("request_id", call.request_id)
    return event


def configure(service: str, level: str = "info") -> None:
    """Set up structlog and the standard library's logging for this process, called once by `run_service`."""

    def add_service(_logger: object, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    shared: list[Processor] = [
        add_service,
        _add_call,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    # Libraries tell at `info` what only their authors want to know.
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))
