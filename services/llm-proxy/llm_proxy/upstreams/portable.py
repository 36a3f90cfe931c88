"""Requests in a form that providers of other APIs have a counterpart of, with nothing left out unsaid.

LiteLLM 1.106.2 drops documents with text, documents with content, search results, and every block that it
does not know from what it translates, and sends a PDF as a picture, which most providers refuse
(`adapters/transformation.py`, `translate_anthropic_messages_to_openai`). So text goes as text here, and a
PDF that the model does not take is refused, in the words on which Claude Code removes it and tells the model
so.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from llm_proxy.upstreams.provider_failure import ProviderFailure

# What LiteLLM translates whole.
_KNOWN: Final = frozenset({"text", "image", "tool_use", "tool_result", "thinking", "redacted_thinking"})
# Where LiteLLM's form of a PDF is one that the provider takes.
_PDF_PROVIDERS: Final = frozenset({"gemini", "vertex_ai", "bedrock"})
_TEXT_TYPES: Final = ("text/", "application/json", "application/xml")


def media_in(body: Mapping[str, Any]) -> frozenset[str]:
    """Return which of `image` and `document` a request has, also inside tool results and documents."""
    return frozenset(str(block["type"]) for block in _media(body))


def attached(body: Mapping[str, Any]) -> Iterator[str]:
    """Yield the base64 of the images and documents in a request."""
    for block in _media(body):
        source = block.get("source")
        if isinstance(source, Mapping) and source.get("type") == "base64":
            yield str(source.get("data", ""))


def _media(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for message in body.get("messages", ()):
        yield from _blocks(message.get("content"))


def _blocks(content: Any) -> Iterator[Mapping[str, Any]]:
    """Yield images and documents, also those within other blocks."""
    for block in content if isinstance(content, list) else ():
        if not isinstance(block, Mapping):
            continue
        if block.get("type") in ("image", "document"):
            yield block
        yield from _blocks(block.get("content"))
        source = block.get("source")
        if isinstance(source, Mapping):
            yield from _blocks(source.get("content"))


def portable(messages: list[Any], *, model: str, pdf: bool) -> list[Any]:
    """Return a request's messages with blocks that can be translated. `pdf`: whether the model reads PDFs.

    `model` is its name with the provider. Thinking that Claude has signed can be read by Claude only, and
    others refuse the field that LiteLLM makes of it: it is left out for them, as for every model that did not
    think it. Raises ProviderFailure of kind `document` for one that has no counterpart.
    """
    takes_pdf = pdf and model.partition("/")[0] in _PDF_PROVIDERS
    ported = [
        {**message, "content": _content(message["content"], takes_pdf)}
        if isinstance(message.get("content"), list)
        else message
        for message in messages
    ]
    return ported if "claude" in model else without_thinking(ported, signed_only=True)


def without_thinking(messages: list[Any], *, signed_only: bool = False) -> list[Any]:
    """Return messages without thinking, or without that which Claude has signed."""

    def stays(block: Mapping[str, Any]) -> bool:
        kind = block.get("type")
        signed = kind == "redacted_thinking" or bool(block.get("signature"))
        return kind not in ("thinking", "redacted_thinking") or (signed_only and not signed)

    return [
        # A message has to have something.
        {
            **message,
            "content": [block for block in message["content"] if stays(block)] or [_text("(no answer)")],
        }
        if message.get("role") == "assistant" and isinstance(message.get("content"), list)
        else message
        for message in messages
    ]


def _content(content: list[Any], takes_pdf: bool) -> list[Any]:
    return [part for block in content for part in _parts(block, takes_pdf)]


def _parts(block: Mapping[str, Any], takes_pdf: bool) -> list[Any]:
    """Return what stands for a block."""
    kind = block.get("type")
    if kind == "tool_result" and isinstance(block.get("content"), list):
        return [{**block, "content": _content(block["content"], takes_pdf)}]
    if kind in _KNOWN:
        return [block]
    if kind == "document":
        return _document(block, takes_pdf)
    if kind == "search_result":
        return _framed("search_result", block, _content(block.get("content") or [], takes_pdf))
    return [_text(f"<{kind}>\n{json.dumps(block, ensure_ascii=False)}\n</{kind}>")]


def _document(block: Mapping[str, Any], takes_pdf: bool) -> list[Any]:
    source = block.get("source") or {}
    media_type, data = str(source.get("media_type", "")), source.get("data")
    if source.get("type") == "content":
        content = source.get("content")
        inner = _content(content, takes_pdf) if isinstance(content, list) else [_text(str(content or ""))]
        return _framed("document", block, inner)
    if source.get("type") == "text":
        return _framed("document", block, [_text(str(data or ""))])
    if media_type.startswith(_TEXT_TYPES):
        return _framed("document", block, [_text(_decoded(data))])
    if takes_pdf and media_type == "application/pdf":
        return [block]
    title = f" “{block['title']}”" if block.get("title") else ""
    raise ProviderFailure(
        "document", 400, f"the request has a document{title} of type {media_type or 'unknown'}"
    )


def _decoded(data: Any) -> str:
    try:
        return base64.b64decode(str(data), validate=True).decode()
    except (binascii.Error, ValueError):
        raise ProviderFailure(
            "document", 400, "a text document of the request is not base64 of UTF-8"
        ) from None


def _framed(tag: str, block: Mapping[str, Any], inner: list[Any]) -> list[Any]:
    """Return parts with a line before them that says what they are, and one that ends them."""
    names = ("title", "source", "context")
    labels = "".join(
        f" {name}={json.dumps(block[name])}" for name in names if isinstance(block.get(name), str)
    )
    return [_text(f"<{tag}{labels}>"), *inner, _text(f"</{tag}>")]


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}
