"""A sandbox has no network, and a provider's must not become its own: nothing in a request may fetch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from llm_proxy.messages.invalid import invalid
from llm_proxy.messages.media import check_base64

# Where a picture or a document comes from: in the request itself.
_OWN_SOURCES: Final = frozenset({"base64", "text", "content"})
CLIENT_TOOL: Final = re.compile(r"(bash|text_editor|computer|memory)_\d{8}")
"""Types of Anthropic's tools that the caller's own program runs; the provider only knows their schema."""
# What makes a provider connect somewhere, or keeps something there from call to call.
_REACHING_FIELDS: Final = ("mcp_servers", "container")


def check_reach(body: Mapping[str, Any]) -> None:
    """Raise Failure INVALID_FIELD for a request that would have a provider, or LiteLLM, fetch or run things.

    Betas need no list of their own: without these fields, tools and sources they reach nowhere.
    """
    if body.get("thread") is not None:
        raise Failure(
            errors_pb2.ERROR_REASON_INVALID_FIELD,
            "thread: conversations are not stored here. Send the whole conversation in messages, without "
            "thread.",
            fields=[("thread", "is not supported: send the whole conversation in messages")],
            error_code="thread_unsupported_request",
        )
    for name in _REACHING_FIELDS:
        if body.get(name) is not None:
            raise invalid(name, "is not accepted here: it would reach beyond the model")
    for index, tool in enumerate(body.get("tools", ())):
        kind = tool.get("type")
        if kind not in (None, "custom") and not (isinstance(kind, str) and CLIENT_TOOL.fullmatch(kind)):
            raise invalid(
                f"tools[{index}].type",
                "must be custom, or a tool that your own program runs (bash_*, text_editor_*, computer_*, "
                "memory_*). Tools that run at the provider reach the network and are refused",
            )
    _check_blocks("system", body.get("system"))
    for index, message in enumerate(body["messages"]):
        _check_blocks(f"messages[{index}].content", message["content"])


def _check_blocks(place: str, content: Any) -> None:
    """Look at blocks and at those within them, such as a tool's result."""
    if not isinstance(content, list):
        return
    for index, block in enumerate(content):
        if not isinstance(block, dict):
            continue
        source = block.get("source")
        where = f"{place}[{index}]"
        if isinstance(source, dict):
            if source.get("type") not in _OWN_SOURCES:
                raise invalid(f"{where}.source.type", f"must be one of {', '.join(sorted(_OWN_SOURCES))}")
            if source["type"] == "base64":
                check_base64(f"{where}.source", str(block.get("type")), source)
            _check_blocks(f"{where}.source.content", source.get("content"))
        if "image_url" in block or "file_id" in block:
            raise invalid(where, "must bring its content with it")
        _check_blocks(f"{where}.content", block.get("content"))
