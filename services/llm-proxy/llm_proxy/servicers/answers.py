"""Streams of the Messages API as the pieces of a gRPC answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from pointsman.errors.v1 import errors_pb2
from pointsman.llm.v1 import llm_service_pb2 as pb
from servicekit.errors import Failure

from llm_proxy.call import CallReport
from llm_proxy.ledger.money import dollars
from llm_proxy.upstreams.provider_failure import from_event

_CUTS: Final = ("max_tokens", "model_context_window_exceeded", "refusal")


class PieceReader:
    """Reads a stream that is in order, cut anywhere, into pieces. A tool call is one piece, when it is whole.

    A tool call that cannot be read is an error, unless the answer was cut at a limit in the middle of it:
    then the stop reason says what happened.
    """

    def __init__(self) -> None:
        self.stop_reason = ""
        self._rest = b""
        self._model = ""
        self._tools: dict[int, dict[str, str]] = {}
        self._unreadable = ""

    def feed(self, chunk: bytes) -> Iterator[pb.CreateMessageResponse]:
        """Yield the pieces that these bytes complete. Raises Failure for an error in the stream."""
        *events, self._rest = (self._rest + chunk).replace(b"\r\n", b"\n").split(b"\n\n")
        for raw in events:
            for line in raw.split(b"\n"):
                if line.startswith(b"data:"):
                    piece = self._piece(json.loads(line[5:].decode("utf-8", "replace")))
                    if piece is not None:
                        yield piece

    def _piece(self, data: dict[str, Any]) -> pb.CreateMessageResponse | None:
        match data.get("type"):
            case "message_start":
                self._model = str(data["message"].get("model", ""))
            case "content_block_start" if data["content_block"].get("type") == "tool_use":
                block = data["content_block"]
                self._tools[data["index"]] = {"id": block["id"], "name": block["name"], "input": ""}
            case "content_block_delta":
                return self._delta(data["index"], data["delta"])
            case "content_block_stop" if data["index"] in self._tools:
                return self._tool_call(self._tools.pop(data["index"]))
            case "message_delta":
                self.stop_reason = str(data["delta"].get("stop_reason") or "")
            case "message_stop" if self._unreadable and self.stop_reason not in _CUTS:
                raise Failure(
                    errors_pb2.ERROR_REASON_PROVIDER_RESPONSE_INVALID,
                    f"The provider called the tool {self._unreadable} with something that is not a JSON "
                    "object. Send the prompt again, or choose another model.",
                    model=self._model,
                )
            case "error":
                raise from_event(data.get("error") or {}).to_failure(self._model)
        return None

    def _delta(self, index: int, delta: dict[str, Any]) -> pb.CreateMessageResponse | None:
        match delta.get("type"):
            case "text_delta":
                return pb.CreateMessageResponse(text_delta=delta["text"])
            case "thinking_delta":
                return pb.CreateMessageResponse(thinking_delta=delta["thinking"])
            case "input_json_delta" if index in self._tools:
                self._tools[index]["input"] += delta["partial_json"]
        return None

    def _tool_call(self, tool: dict[str, str]) -> pb.CreateMessageResponse | None:
        call = pb.ToolCall(id=tool["id"], name=tool["name"])
        try:
            # An empty input is none: some providers send no delta at all for it.
            call.input.update(json.loads(tool["input"]) if tool["input"].strip() else {})
        except (ValueError, TypeError, AttributeError, RecursionError):
            self._unreadable = tool["name"] or "(unnamed)"
            return None
        return pb.CreateMessageResponse(tool_call=call)


def finished(stop_reason: str, report: CallReport) -> pb.CreateMessageResponse:
    """Return the last piece."""
    end = pb.MessageFinished(stop_reason=stop_reason, model=report.model)
    end.usage.input_tokens = report.usage.input_tokens
    end.usage.output_tokens = report.usage.output_tokens
    end.usage.cache_read_tokens = report.usage.cache_read_tokens
    end.usage.cache_write_tokens = report.usage.cache_write_tokens
    end.usage.cost_usd = dollars(report.cost)
    end.usage.model_calls = 1
    end.usage.estimated_calls = int(report.estimated)
    return pb.CreateMessageResponse(finished=end)
