"""Answers kept in memory, for requests that are repeated word for word and leave nothing to chance."""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from llm_proxy.messages.request import MessagesRequest

# All answers together; one is mostly a few KB.
_BYTES_LIMIT: Final = 64 * 1024 * 1024
# Of one answer: longer ones are dear to keep and rarely asked for again.
_ANSWER_LIMIT: Final = 1024 * 1024
# Of one request: to make its key takes a millisecond for each of these.
_REQUEST_LIMIT: Final = 128 * 1024


class AnswerCache:
    """The newest answers of each tenant's own requests; nothing is shared between tenants."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._answers: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._size = 0

    def key(self, tenant: str, model: str, request: MessagesRequest) -> str | None:
        """Return the request's key; None when its answer is not kept: it is random, or the request long."""
        if request.body.get("temperature") != 0 or request.size > _REQUEST_LIMIT:
            return None
        body = {name: value for name, value in request.body.items() if name not in ("model", "metadata")}
        text = json.dumps([tenant, model, body], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def get(self, key: str) -> bytes | None:
        """Return the answer's bytes, None when there is none or it is too old."""
        answer, until = self._answers.get(key, (None, 0.0))
        if answer is None:
            return None
        if self._clock() >= until:
            self._drop(key)
            return None
        self._answers.move_to_end(key)
        return answer

    def put(self, key: str, answer: bytes) -> None:
        """Keep a whole answer, and let go of the oldest ones for it."""
        if len(answer) > _ANSWER_LIMIT:
            return
        self._drop(key)
        self._answers[key] = (answer, self._clock() + self._seconds)
        self._size += len(answer)
        while self._size > _BYTES_LIMIT:
            self._drop(next(iter(self._answers)))

    def _drop(self, key: str) -> None:
        answer, _ = self._answers.pop(key, (b"", 0.0))
        self._size -= len(answer)
