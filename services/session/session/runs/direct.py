"""Direct turns: one call to the model, no sandbox."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.struct_pb2 import Struct
from pointsman.errors.v1 import errors_pb2
from pointsman.llm.v1 import llm_service_pb2
from pointsman.session.v1 import event_pb2, turn_pb2
from servicekit.errors import Failure

from session.names import session_name
from session.peers import Models, Party
from session.runs.endings import incomplete
from session.runs.writer import TurnWriter, timed_out
from session.sessions.history import conversation
from session.storage.rows import TurnRow

# llm-proxy restarts within this time; a call that it has not begun to answer is made again.
_PATIENCE_SECONDS: Final = 10.0
_AGAIN_SECONDS: Final = 0.25

_ESCALATE: Final = "start_agent"
_ESCALATE_TOOL: Final = llm_service_pb2.ToolDefinition(
    name=_ESCALATE,
    description=(
        "Hand the request to an agent that can read and write files, run commands and take several steps. "
        "Call it when the request cannot be answered well without that; do not call it for what you can "
        "answer yourself."
    ),
)
_ESCALATE_TOOL.input_schema.update({"type": "object", "properties": {"reason": {"type": "string"}}})


# A block is one event, and what of it was written is told at once to who joins: at most 2 MiB as UTF-8.
_BLOCK_CHARACTERS: Final = 256 * 1024


@dataclass(frozen=True)
class Escalated:
    """The model asked for an agent."""

    reason: str


class DirectTurn:
    """One direct turn of this replica. Setting `cancel` breaks the call off."""

    def __init__(
        self, writer: TurnWriter, models: Models, cancel: asyncio.Event, earlier: Sequence[TurnRow]
    ) -> None:
        self._writer = writer
        self._models = models
        self._cancel = cancel
        self._earlier = earlier
        self._turn = writer.turn
        self._party = Party(
            self._turn.tenant, self._turn.account, self._turn.principal, self._turn.request_id
        )
        self._answer = _Answer(writer)
        self._stop_reason = ""

    async def run(self) -> Escalated | None:
        """Run the turn to its end, or until the model asks for an agent. Raises LeaseLost."""
        asking = asyncio.create_task(self._ask())
        stopping = asyncio.create_task(self._cancel.wait())
        try:
            await asyncio.wait(
                {asking, stopping}, timeout=self._seconds_left(), return_when=asyncio.FIRST_COMPLETED
            )
            if asking.done():
                return await self._ended(asking)
            asking.cancel()
            await asyncio.wait({asking})
            if stopping.done():
                await self._writer.cancelled()
            else:
                await self._writer.failed(timed_out(self._turn.turn_options))
            return None
        finally:
            asking.cancel()
            stopping.cancel()
            await asyncio.gather(asking, stopping, return_exceptions=True)

    def _seconds_left(self) -> float:
        timeout = self._turn.turn_options.timeout.ToTimedelta().total_seconds()
        return max(timeout - (time.time() - self._turn.start_time / 1e6), 0.001)

    async def _ended(self, asking: asyncio.Task[Escalated | None]) -> Escalated | None:
        try:
            escalated = asking.result()
        except Failure as failure:
            await self._answer.close(self._turn.model)
            await self._writer.finish(turn_pb2.TURN_STATE_FAILED, self._answer.text, failure)
            return None
        if escalated is None:
            cut = incomplete(self._stop_reason, self._answer.model, self._turn.turn_options)
            outcome = turn_pb2.TURN_STATE_SUCCEEDED if cut is None else turn_pb2.TURN_STATE_FAILED
            await self._writer.finish(outcome, self._answer.text, cut)
        return escalated

    async def _ask(self) -> Escalated | None:
        began = time.monotonic()
        while True:
            try:
                return await self._call()
            except Failure as failure:
                gone = failure.reason == errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE
                if not gone or self._answer.began or time.monotonic() - began > _PATIENCE_SECONDS:
                    raise
            await asyncio.sleep(_AGAIN_SECONDS)

    def _request(self) -> llm_service_pb2.CreateMessageRequest:
        options = self._turn.turn_options
        system = "\n\n".join(text for text in (options.system_prompt, options.append_system_prompt) if text)
        return llm_service_pb2.CreateMessageRequest(
            model=self._turn.model,
            messages=conversation(self._earlier, self._turn),
            system=system,
            max_tokens=options.max_output_tokens,
            tools=[_ESCALATE_TOOL] if self._turn.may_escalate else [],
            scope=llm_service_pb2.BillingScope(
                account=self._turn.account, session=session_name(self._turn.session_id), turn=self._turn.name
            ),
        )

    async def _call(self) -> Escalated | None:
        escalated: Escalated | None = None
        async for piece in self._models.create_message(self._party, self._request(), self._seconds_left()):
            kind = piece.WhichOneof("piece")
            if kind == "text_delta":
                await self._answer.add("text_delta", piece.text_delta)
            elif kind == "thinking_delta":
                await self._answer.add("thinking_delta", piece.thinking_delta)
            elif kind == "tool_call" and piece.tool_call.name == _ESCALATE:
                escalated = Escalated(_reason(piece.tool_call.input))
            elif kind == "finished":
                self._stop_reason = piece.finished.stop_reason
                await self._answer.close(piece.finished.model)
                usage = event_pb2.UsageReported(model=piece.finished.model, usage=piece.finished.usage)
                await self._writer.put(event_pb2.Event(usage=usage))
                return escalated
        raise Failure(
            errors_pb2.ERROR_REASON_PROVIDER_RESPONSE_INVALID, "The model's answer broke off. Try again."
        )


def _reason(arguments: Struct) -> str:
    return arguments.fields["reason"].string_value if "reason" in arguments.fields else ""


class _Answer:
    """What the model has said, block by block."""

    def __init__(self, writer: TurnWriter) -> None:
        self._writer = writer
        self._live = writer.turn.turn_options.include_partial_messages
        self._kind = ""
        self._parts: list[str] = []
        self._length = 0
        self._block = 0
        self.text = ""
        """All text so far, without thinking."""
        self.model = writer.turn.model
        """The model that answers: a fallback's, once that is known."""
        self.began = False

    async def add(self, kind: str, text: str) -> None:
        """Take in a piece of a `text_delta` or `thinking_delta`."""
        if kind != self._kind or self._length >= _BLOCK_CHARACTERS:
            await self.close(self._writer.turn.model)
        self._kind, self.began = kind, True
        if self._live:
            self._writer.delta(self._delta(text))
        self._parts.append(text)
        self._length += len(text)

    def _delta(self, text: str) -> event_pb2.Event:
        message_id, block, offset = self._writer.turn.id, self._block, self._length
        if self._kind == "text_delta":
            written = event_pb2.TextDelta(text=text, message_id=message_id, block=block, offset=offset)
            return event_pb2.Event(text_delta=written)
        thought = event_pb2.ThinkingDelta(thinking=text, message_id=message_id, block=block, offset=offset)
        return event_pb2.Event(thinking_delta=thought)

    async def close(self, model: str) -> None:
        """Log the block that was being written, if one was."""
        self.model = model or self.model
        if not self._parts:
            return
        text = "".join(self._parts)
        message = event_pb2.AssistantMessage(
            message_id=self._writer.turn.id, block=self._block, model=self.model
        )
        if self._kind == "text_delta":
            message.text = text
            self.text += text
        else:
            message.thinking = text
        await self._writer.put(event_pb2.Event(assistant_message=message))
        self._parts, self._length, self._block = [], 0, self._block + 1
