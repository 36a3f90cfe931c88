"""What a running turn lets its sandbox's requests do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from runner.relay.text_reader import ModelText
from runner.relay.tool_calls import RecentToolCalls


@dataclass
class Grant:
    """What a turn lets its sandbox's requests do, and where it hears of them."""

    ask: Callable[[], asyncio.Task[str]]
    """Begins to ask llm-proxy for a token."""
    note: Callable[[str, Mapping[str, Any]], None]
    """Takes what llm-proxy reports: `usage` or `retry`, and its values."""
    listen: Callable[[], ModelText] | None = None
    """Makes what takes the text of a streamed answer as it goes by, before the sandbox has it."""
    refusal: Failure | None = None
    """What llm-proxy refused last; None again after a call that succeeded."""
    calls: RecentToolCalls = field(default_factory=RecentToolCalls)
    """The tool calls in the turn's answers."""
    over: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """Done when a model's answer is over a limit, with a sentence that names it. The turn ends then."""
    _token: asyncio.Task[str] | None = None
    _closed: bool = False

    def token(self) -> asyncio.Task[str]:
        """Return the token, which is asked for the first time that it is wanted.

        Raises Failure TURN_NOT_FOUND after the turn's end: what was given out then, nobody would take back.
        """
        if self._closed:
            raise Failure(errors_pb2.ERROR_REASON_TURN_NOT_FOUND, "The turn that asked for a model is over.")
        if self._token is None:
            self._token = self.ask()
        return self._token

    def renew(self) -> None:
        """Ask for another token, which takes the place of the one before."""
        self._token = self.ask()

    def close(self) -> None:
        """Nobody wants the token any more."""
        self._closed = True
        if self._token is not None:
            self._token.cancel()
