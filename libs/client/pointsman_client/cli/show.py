"""What is printed: for people, or as JSON, one object a line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from pointsman.session.v1 import event_pb2, turn_pb2
from rich.markup import escape
from rich.table import Table

from pointsman_client.cli.settings import State

_LONGEST: Final = 400


def as_json(state: State, message: Message) -> None:
    """Print a message as the contract's JSON, on one line."""
    as_line(state, MessageToDict(message))


def as_line(state: State, found: Mapping[str, Any]) -> None:
    """Print JSON on one line, however long it is."""
    text = json.dumps(found, ensure_ascii=False)
    state.out.print(text, markup=False, soft_wrap=True, highlight=False)


def listing(
    state: State, messages: Iterable[Message], columns: Mapping[str, Callable[[Message], object]], empty: str
) -> None:
    """Print messages as a table, or each as JSON."""
    if state.json:
        for message in messages:
            as_json(state, message)
        return
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for message in messages:
        table.add_row(*(escape(str(value(message))) for value in columns.values()))
    state.out.print(table if table.row_count else f"[dim]{empty}[/dim]")


class TurnPrinter:
    """Prints a turn's events as they come: text as it is written, the rest one line each."""

    def __init__(self, state: State, *, quiet: bool = False) -> None:
        self._state = state
        self._quiet = quiet
        # Characters printed of each block that was written before our eyes.
        self._printed: dict[tuple[str, int], int] = {}
        self._in_line = False

    def show(self, event: event_pb2.Event) -> None:
        """Print one event."""
        if self._state.json:
            as_json(self._state, event)
            return
        kind = event.WhichOneof("kind") or ""
        printer = getattr(self, f"_{kind}", None)
        if printer is not None:
            printer(getattr(event, kind))

    def _text(self, text: str) -> None:
        if self._quiet:
            return
        self._state.out.print(text, end="", markup=False, highlight=False, soft_wrap=True)
        self._in_line = not text.endswith("\n")

    def _line(self, text: str, style: str = "dim") -> None:
        if self._quiet:
            return
        self._end_line()
        short = text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
        self._state.out.print(short, style=style, markup=False, highlight=False)

    def _end_line(self) -> None:
        if self._in_line:
            self._state.out.print()
            self._in_line = False

    def _text_delta(self, delta: event_pb2.TextDelta) -> None:
        block = delta.message_id, delta.block
        printed = self._printed.get(block, 0)
        if delta.offset > printed:
            # A piece before it is missing; the whole block has both.
            return
        self._text(delta.text[printed - delta.offset :])
        self._printed[block] = max(printed, delta.offset + len(delta.text))

    def _assistant_message(self, said: event_pb2.AssistantMessage) -> None:
        # Who was behind did not get the last pieces.
        rest = said.text[self._printed.pop((said.message_id, said.block), 0) :]
        if rest:
            self._text(rest)
        self._end_line()

    def _triage_decided(self, decided: event_pb2.TriageDecided) -> None:
        route = turn_pb2.TurnRoute.Name(decided.route).removeprefix("TURN_ROUTE_").lower()
        self._line(f"→ {route} ({decided.decided_by}{': ' + decided.reason if decided.reason else ''})")

    def _context_created(self, created: event_pb2.ContextCreated) -> None:
        outcome = created.error.message if created.HasField("error") else f"{created.size_bytes} bytes"
        self._line(f"+ {created.provider}: {outcome}")

    def _turn_queued(self, queued: event_pb2.TurnQueued) -> None:
        if queued.position > 1:
            self._line(f"waiting, number {queued.position} in the queue")

    def _tool_use(self, use: event_pb2.ToolUse) -> None:
        self._line(f"{use.tool} {json.dumps(MessageToDict(use.input), ensure_ascii=False)}", style="cyan")

    def _tool_result(self, result: event_pb2.ToolResult) -> None:
        if result.is_error:
            self._line(result.content, style="red")

    def _file_change(self, change: event_pb2.FileChange) -> None:
        kind = event_pb2.FileChangeType.Name(change.type).removeprefix("FILE_CHANGE_TYPE_").lower()
        self._line(f"{kind} {change.path}", style="green")

    def _permission_requested(self, asked: event_pb2.PermissionRequested) -> None:
        self._line(f"asks for {asked.tool} (permission {asked.permission_id})", style="yellow")

    def _model_retry(self, retry: event_pb2.ModelRetry) -> None:
        self._line(f"the model is tried again: {retry.message}", style="yellow")

    def _turn_finished(self, finished: turn_pb2.TurnFinished) -> None:
        self._end_line()
        if self._quiet and finished.result:
            self._state.out.print(finished.result, markup=False, highlight=False, soft_wrap=True)
        if finished.HasField("error"):
            self._state.err.print(finished.error.message, style="red", markup=False, highlight=False)
