"""A request to the Messages API: read, checked, and with nothing in it that is not the caller's business."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from llm_proxy.messages.invalid import invalid
from llm_proxy.messages.parse import parsed
from llm_proxy.messages.reach import check_reach

# What LiteLLM and its like take as commands instead of as part of the request.
_CONTROL: Final = frozenset(
    {
        "api_base", "api_key", "api_version", "base_url", "organization", "custom_llm_provider",
        "deployment_id", "client", "headers", "extra_headers", "extra_body", "extra_query", "timeout",
        "request_timeout", "num_retries", "max_retries", "fallbacks", "context_window_fallback_dict",
        "mock_response", "mock_tool_calls", "model_list", "user_config", "cache", "caching", "no-log",
        "litellm_logging_obj", "proxy_server_request", "use_litellm_proxy", "callbacks", "success_callback",
        "guardrails", "tags", "configurable_clientside_auth_params",
    }
)  # fmt: skip
_CONTROL_PREFIXES: Final = ("litellm_", "aws_", "azure_", "vertex_", "gcs_", "s3_", "langfuse_", "watsonx_")

CALL_ID_HEADER: Final = "x-client-request-id"
"""As OpenAI takes it from clients, and Claude Code sends it: a provider finds a call by it."""

FORWARDED_HEADERS: Final = ("anthropic-version", "anthropic-beta")
_HEADER_FORMS: Final = {
    "anthropic-version": (re.compile(r"\d{4}-\d{2}-\d{2}"), "must be a date, such as 2023-06-01"),
    "anthropic-beta": (
        re.compile(r"[A-Za-z0-9._-]{1,128}( *, *[A-Za-z0-9._-]{1,128}){0,63}"),
        "must be names with commas between, such as context-1m-2025-08-07",
    ),
}

DEFAULT_MAX_TOKENS: Final = 4096
_MOST_TOKENS: Final = 2**31 - 1

# A value takes some hundred bytes in memory and a microsecond to read; a long conversation has thousands.
_MOST_VALUES: Final = 500_000

# To search a body for its model's name, or to write it anew, takes a millisecond for each of these.
_SEARCHED_BYTES: Final = 256 * 1024


@dataclass(frozen=True)
class MessagesRequest:
    """A request with its body as it came, and what of its headers goes on to Anthropic."""

    body: Mapping[str, Any] = field(repr=False)
    raw: bytes = field(repr=False)
    """The body's bytes, which go on as they are where the upstream speaks the same language."""
    headers: Mapping[str, str] = field(default_factory=dict)
    call_id: str = ""
    """The call's id in the ledger, which the provider gets as well; empty for what is in no ledger."""

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return len(self.raw)

    @property
    def model(self) -> str:
        """The model as it was asked for; empty for the default."""
        return str(self.body.get("model", ""))

    @property
    def stream(self) -> bool:
        """Whether the answer is asked for as a stream."""
        return bool(self.body.get("stream", False))

    @property
    def max_tokens(self) -> int:
        """Tokens to write at most."""
        return int(self.body.get("max_tokens", DEFAULT_MAX_TOKENS))

    def with_max_tokens(self, most: int) -> MessagesRequest:
        """Return the request with another limit of tokens to write."""
        return self.with_field("max_tokens", most)

    def with_field(self, name: str, value: Any) -> MessagesRequest:
        """Return the request with another value of a field, written anew."""
        body = {**self.body, name: value}
        return replace(self, body=body, raw=json.dumps(body).encode())


def read_request(raw: bytes, headers: Mapping[str, str], *, counting: bool = False) -> MessagesRequest:
    """Read a body. Raises Failure MALFORMED_REQUEST or INVALID_FIELD. Counting needs no `max_tokens`."""
    if len(raw) > _MOST_VALUES and sum(raw.count(mark) for mark in b",[{") > _MOST_VALUES:
        # Documents and pictures are long texts; only a bomb has this many small values.
        raise Failure(
            errors_pb2.ERROR_REASON_MESSAGE_TOO_LARGE,
            f"The body has more than {_MOST_VALUES} values.",
            limit=str(_MOST_VALUES),
        )
    body = parsed(raw)
    if not isinstance(body, dict):
        raise Failure(errors_pb2.ERROR_REASON_MALFORMED_REQUEST, "The body is not a JSON object.")
    _check_control(body)
    _check_fields(body, counting)
    check_reach(body)
    forwarded = _forwarded(headers)
    return MessagesRequest(body, _model_first(raw, body), forwarded)


def _model_first(raw: bytes, body: Mapping[str, Any]) -> bytes:
    """Return a large body so that its model's name can be replaced without a search: as the first key."""
    if len(raw) <= _SEARCHED_BYTES or raw.startswith(model_prefix(str(body.get("model", "")))):
        return raw
    rest = {name: value for name, value in body.items() if name != "model"}
    return json.dumps({"model": body.get("model", ""), **rest}, separators=(",", ":")).encode()


def model_prefix(model: str) -> bytes:
    """Return how a body begins whose first key is its model."""
    return b'{"model":' + json.dumps(model).encode()


def _forwarded(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return the headers that go on. Raises Failure INVALID_FIELD for one that is not what Anthropic's is."""
    forwarded = {name: headers[name] for name in FORWARDED_HEADERS if name in headers}
    for name, value in forwarded.items():
        form, rule = _HEADER_FORMS[name]
        if value and not form.fullmatch(value):
            raise invalid(name, rule)
    return forwarded


def _check_control(body: Mapping[str, Any]) -> None:
    for name in body:
        if name in _CONTROL or name.startswith(_CONTROL_PREFIXES):
            raise invalid(
                name, "is not accepted here: where and how models are asked is the operator's choice"
            )
    metadata = body.get("metadata")
    # Claude Code names its session here, and Anthropic takes nothing else.
    if metadata is not None and (
        not isinstance(metadata, dict)
        or set(metadata) - {"user_id"}
        or not isinstance(metadata.get("user_id"), str | None)
    ):
        raise invalid("metadata", "may hold user_id, a text, and nothing else")


def _check_fields(body: Mapping[str, Any], counting: bool) -> None:
    if not isinstance(body.get("model", ""), str):
        raise invalid("model", "must be a text")
    if not isinstance(body.get("stream", False), bool):
        raise invalid("stream", "must be true or false")
    max_tokens = body.get("max_tokens", DEFAULT_MAX_TOKENS if counting else None)
    if not isinstance(max_tokens, int) or isinstance(max_tokens, bool) or not 1 <= max_tokens <= _MOST_TOKENS:
        raise invalid("max_tokens", f"must be a whole number from 1 to {_MOST_TOKENS}")
    _check_messages(body.get("messages"))
    tools = body.get("tools", [])
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise invalid("tools", "must be a list of tools")
    if not isinstance(body.get("system", ""), (str, list)):
        raise invalid("system", "must be a text or a list of blocks")


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise invalid("messages", "must be a list of at least one message")
    for index, message in enumerate(messages):
        place = f"messages[{index}]"
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise invalid(place, "must have a role and content")
        content = message.get("content")
        if isinstance(content, str):
            continue
        if not isinstance(content, list) or not all(
            isinstance(block, dict) and isinstance(block.get("type"), str) for block in content
        ):
            raise invalid(f"{place}.content", "must be a text or a list of blocks, each with its type")
