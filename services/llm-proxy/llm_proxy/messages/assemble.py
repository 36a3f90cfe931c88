"""A whole message out of its stream."""

from __future__ import annotations

import json
from typing import Any, Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

_CUTS: Final = ("max_tokens", "model_context_window_exceeded", "refusal")


class Assembler:
    """Puts a message together from events."""

    def __init__(self) -> None:
        self._message: dict[str, Any] = {}
        self._json: dict[int, list[str]] = {}
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the stream."""
        *events, self._rest = (self._rest + chunk).split(b"\n\n")
        for raw in events:
            for line in raw.split(b"\n"):
                if line.startswith(b"data:"):
                    self._take(json.loads(line[5:]))

    def message(self) -> dict[str, Any]:
        """Return the message as far as it has come."""
        for index, pieces in self._json.items():
            text = "".join(pieces)
            try:
                self._message["content"][index]["input"] = json.loads(text) if text.strip() else {}
            except (ValueError, RecursionError):
                if self._message.get("stop_reason") in _CUTS:
                    # Cut at a limit in the middle of the call: that is what the stop reason says.
                    self._message["content"][index]["input"] = {}
                    continue
                raise Failure(
                    errors_pb2.ERROR_REASON_PROVIDER_RESPONSE_INVALID,
                    "The provider called a tool with something that is not JSON.",
                ) from None
        return self._message

    def _take(self, data: dict[str, Any]) -> None:
        match data.get("type"):
            case "message_start":
                self._message = {**data["message"], "content": []}
            case "content_block_start":
                self._message["content"].append(dict(data["content_block"]))
            case "content_block_delta":
                self._take_delta(data["index"], data["delta"])
            case "message_delta":
                self._message.update(data.get("delta", {}))
                self._message["usage"] = {**self._message.get("usage", {}), **data.get("usage", {})}

    def _take_delta(self, index: int, delta: dict[str, Any]) -> None:
        block = self._message["content"][index]
        match delta.get("type"):
            case "text_delta":
                block["text"] = block.get("text", "") + delta["text"]
            case "thinking_delta":
                block["thinking"] = block.get("thinking", "") + delta["thinking"]
            case "signature_delta":
                block["signature"] = delta["signature"]
            case "input_json_delta":
                self._json.setdefault(index, []).append(delta["partial_json"])
