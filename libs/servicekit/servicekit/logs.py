"""Logs: one JSON object per line on stderr, with nothing in it that opens a door."""

from __future__ import annotations

import logging
import re
import sys
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
_SECRET_TEXT: Final = re.compile(r"Bearer\s+\S+|\bsk-[\w-]{8,}|\beyJ[\w-]{5,}\.[\w-]+\.[\w-]+")


def redact(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Replace secrets: the values of keys that look like one, at any depth, and texts in the form of one."""
    return {key: _clean(key, value) for key, value in event.items()}


def _clean(key: str, value: Any) -> Any:
    # A number under such a name counts something: `input_tokens`.
    if isinstance(value, (bool, int, float)) or not value:
        return value
    if _SECRET.search(key) and not _HARMLESS.search(key):
        return REDACTED
    if isinstance(value, str):
        return _SECRET_TEXT.sub(REDACTED, value)
    if isinstance(value, dict):
        return {inner: _clean(str(inner), item) for inner, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_clean("", item) for item in value]
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
