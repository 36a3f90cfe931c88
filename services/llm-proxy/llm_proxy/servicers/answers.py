"""Streams of the Messages API as the pieces of a gRPC answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pointsman.errors.v1 import errors_pb2
from pointsman.llm.v1 import llm_service_pb2 as pb
from servicekit.errors import Failure

from llm_proxy.call import CallReport
from llm_proxy.ledger.money import dollars
from llm_proxy.upstreams.provider_failure import from_event


class PieceReader:
    """Reads a stream's bytes, cut anywhere, into pieces. A tool call is one piece, when it is whole."""

    def __init__(self) -> None:
        self.stop_reason = ""
        self._rest = b""
        self._model = ""
        self._tool: dict[str, str] | None = None
        self._input: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[pb.CreateMessageResponse]:
        """Yield the pieces that these bytes complete. Raises Failure for an error in the stream."""
        *events, self._rest = (self._rest + chunk).replace(b"\r\n", b"\n").split(b"\n\n")
        for raw in events:
            for line in raw.split(b"\n"):
                if line.startswith(b"data:"):
                    piece = self._piece(json.loads(line[5:]))
                    if piece is not None:
                        yield piece

    def _piece(self, data: dict[str, Any]) -> pb.CreateMessageResponse | None:
        match data.get("type"):
            case "message_start":
                self._model = str(data["message"].get("model", ""))
            case "content_block_start" if data["content_block"].get("type") == "tool_use":
                block = data["content_block"]
                self._tool = {"id": str(block.get("id", "")), "name": str(block.get("name", ""))}
                self._input = []
            case "content_block_delta":
                return self._delta(data["delta"])
            case "content_block_stop" if self._tool is not None:
                return self._tool_call()
            case "message_delta":
                self.stop_reason = str(data["delta"].get("stop_reason") or "")
            case "error":
                raise from_event(data.get("error") or {}).to_failure(self._model)
        return None

    def _delta(self, delta: dict[str, Any]) -> pb.CreateMessageResponse | None:
        match delta.get("type"):
            case "text_delta":
                return pb.CreateMessageResponse(text_delta=delta["text"])
            case "thinking_delta":
                return pb.CreateMessageResponse(thinking_delta=delta["thinking"])
            case "input_json_delta":
                self._input.append(str(delta.get("partial_json", "")))
        return None

    def _tool_call(self) -> pb.CreateMessageResponse:
        assert self._tool is not None  # noqa: S101 - the only caller has looked
        call = pb.ToolCall(id=self._tool["id"], name=self._tool["name"])
        text = "".join(self._input)
        try:
            # An empty input is none: some providers send no delta at all for it.
            call.input.update(json.loads(text) if text.strip() else {})
        except (ValueError, TypeError):
            raise Failure(
                errors_pb2.ERROR_REASON_PROVIDER_RESPONSE_INVALID,
                f"The provider called the tool {call.name} with something that is not a JSON object.",
                model=self._model,
            ) from None
        self._tool = None
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
    return pb.CreateMessageResponse(finished=end)
