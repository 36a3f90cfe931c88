"""gRPC requests as requests to the Messages API."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf.json_format import MessageToDict
from pointsman.llm.v1 import llm_service_pb2 as pb

from llm_proxy.messages.request import DEFAULT_MAX_TOKENS, MessagesRequest

_ROLES = {pb.MESSAGE_ROLE_USER: "user", pb.MESSAGE_ROLE_ASSISTANT: "assistant"}


def messages_request(request: pb.CreateMessageRequest, most_output: int) -> MessagesRequest:
    """Return the request as the Messages API has it; it always asks for a stream.

    `most_output` is the model's limit, 0 when it is not known.
    """
    body = _body(request)
    body |= {"max_tokens": request.max_tokens or most_output or DEFAULT_MAX_TOKENS, "stream": True}
    if request.HasField("temperature"):
        body["temperature"] = request.temperature
    if request.forced_tool:
        body["tool_choice"] = {"type": "tool", "name": request.forced_tool}
    return MessagesRequest(body, json.dumps(body).encode())


def counting_request(request: pb.CountTokensRequest) -> MessagesRequest:
    """Return a request to count."""
    body = _body(request)
    return MessagesRequest(body, json.dumps(body).encode())


def _body(request: pb.CreateMessageRequest | pb.CountTokensRequest) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [
            {"role": _ROLES[message.role], "content": [_block(block) for block in message.content]}
            for message in request.messages
        ],
    }
    if request.system:
        body["system"] = request.system
    if request.tools:
        body["tools"] = [
            {
                "name": tool.name,
                "description": tool.description,
                "input_schema": _plain(MessageToDict(tool.input_schema)) or {"type": "object"},
            }
            for tool in request.tools
        ]
    return body


def _block(block: pb.ContentBlock) -> dict[str, Any]:
    match block.WhichOneof("block"):
        case "tool_call":
            call = block.tool_call
            return {
                "type": "tool_use",
                "id": call.id,
                "name": call.name,
                "input": _plain(MessageToDict(call.input)),
            }
        case "tool_answer":
            answer = block.tool_answer
            return {
                "type": "tool_result",
                "tool_use_id": answer.tool_call_id,
                "content": answer.content,
                "is_error": answer.is_error,
            }
        case "thinking":
            # Without a provider's signature a thought cannot be given back as one.
            return {"type": "text", "text": f"<thinking>{block.thinking}</thinking>"}
    return {"type": "text", "text": block.text}


def _plain(value: Any) -> Any:
    """Undo that a Struct has only floating numbers: schemas and tools count in whole ones."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
