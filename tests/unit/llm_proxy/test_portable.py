"""What a caller attaches goes to other providers as text, or is refused; nothing is left out unsaid."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from llm_proxy.upstreams.portable import attached, media_in, portable
from llm_proxy.upstreams.provider_failure import ProviderFailure

PDF = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0xLjQK"}
TEXT = base64.b64encode(b"Invoice 4711").decode()
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}}
PLAIN = {"type": "text", "text": "Invoice 4711"}


def content(*blocks: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(blocks)}]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "document", "title": "T", "source": {"type": "text", "data": "Invoice 4711"}},
        {"type": "document", "source": {"type": "content", "content": [PLAIN]}},
        {"type": "document", "source": {"type": "content", "content": "Invoice 4711"}},
        {"type": "document", "source": {"type": "base64", "media_type": "text/csv", "data": TEXT}},
        {"type": "search_result", "source": "s", "title": "T", "content": [PLAIN]},
        {"type": "web_search_tool_result", "tool_use_id": "x", "content": [{"title": "Invoice 4711"}]},
        {"type": "unheard_of", "what": "Invoice 4711"},
    ],
)
@pytest.mark.parametrize("within", [False, True])
def test_what_has_text_goes_as_text(block: dict[str, Any], within: bool) -> None:
    outer = {"type": "tool_result", "tool_use_id": "t", "content": [block]} if within else block
    [message] = portable(content(outer), model="openai/x", pdf=False)
    [*parts] = message["content"][0]["content"] if within else message["content"]
    assert "Invoice 4711" in json.dumps(parts)
    assert {part["type"] for part in parts} == {"text"}


def test_the_title_of_a_document_goes_with_it() -> None:
    block = {"type": "document", "title": "Bill", "source": {"type": "text", "data": "4711"}}
    [message] = portable(content(block), model="groq/x", pdf=False)
    assert message["content"][0]["text"] == '<document title="Bill">'


def test_pictures_within_a_document_stay_pictures() -> None:
    block = {"type": "document", "source": {"type": "content", "content": [PLAIN, IMAGE]}}
    [message] = portable(content(block), model="openai/x", pdf=False)
    assert [part["type"] for part in message["content"]] == ["text", "text", "image", "text"]


@pytest.mark.parametrize(("provider", "pdf"), [("openai", True), ("gemini", False), ("groq", False)])
def test_a_pdf_that_has_no_counterpart_is_refused(provider: str, pdf: bool) -> None:
    with pytest.raises(ProviderFailure) as caught:
        portable(content({"type": "document", "source": PDF}), model=f"{provider}/x", pdf=pdf)
    failure = caught.value.to_failure("any/model")
    assert failure.reason_name == "ATTACHMENT_UNSUPPORTED"
    assert "does not support PDF input" in failure.message


def test_a_pdf_goes_to_a_model_that_takes_it() -> None:
    block = {"type": "document", "source": PDF}
    assert portable(content(block), model="gemini/x", pdf=True) == content(block)


def test_text_that_is_not_text_is_refused() -> None:
    source = {"type": "base64", "media_type": "text/plain", "data": "//79"}
    with pytest.raises(ProviderFailure):
        portable(content({"type": "document", "source": source}), model="openai/x", pdf=False)


def test_media_is_found_wherever_it_is() -> None:
    document = {"type": "document", "source": {"type": "content", "content": [IMAGE]}}
    body = {"messages": content({"type": "tool_result", "tool_use_id": "t", "content": [document]})}
    assert media_in(body) == {"image", "document"}
    assert list(attached(body)) == ["iVBO"]
    assert media_in({"messages": [{"role": "user", "content": "image"}]}) == frozenset()


def test_thinking_goes_back_to_those_who_thought_it() -> None:
    signed = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
    hidden = {"type": "redacted_thinking", "data": "AAAA"}
    unsigned = {"type": "thinking", "thinking": "so", "signature": ""}
    asked = [{"role": "assistant", "content": [signed, hidden, unsigned, PLAIN]}]
    assert portable(asked, model="groq/x", pdf=False) == [{"role": "assistant", "content": [unsigned, PLAIN]}]
    assert portable(asked, model="bedrock/claude-x", pdf=False) == asked
    only = portable([{"role": "assistant", "content": [signed]}], model="groq/x", pdf=False)
    assert [part["type"] for part in only[0]["content"]] == ["text"]
