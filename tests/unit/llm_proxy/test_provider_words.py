"""Errors of providers are understood in their own words, and told in those that agents act on."""

from __future__ import annotations

import re

import pytest
from llm_proxy.upstreams.error_body import error_message
from llm_proxy.upstreams.provider_failure import from_event, from_status

TOO_LONG = {
    "anthropic": (400, "prompt is too long: 250000 tokens > 200000 maximum"),
    "openai": (
        400,
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4900 in the "
        "messages, 100 in the completion). Please reduce the length of the messages or completion.",
    ),
    "openai-new": (400, "Your input exceeds the context window of this model. Please adjust your input."),
    "vllm": (
        400,
        "The decoder prompt (length 50000) is longer than the maximum model length of 32768. Make sure that "
        "`max_model_len` is no smaller than the number of text tokens.",
    ),
    "groq": (400, "Please reduce the length of the messages or completion."),
    "groq-minute": (
        413,
        "Request too large for model `x` in organization `o` on tokens per minute (TPM): Limit 6000, "
        "Requested 12000, please reduce your message size and try again.",
    ),
    "openrouter": (
        400,
        "This endpoint's maximum context length is 131,072 tokens. However, you requested about 240,000 "
        "tokens (240,000 of text input).",
    ),
    "gemini": (
        400,
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    ),
    "bedrock": (400, "Input is too long for requested model."),
    "ollama": (500, "prompt too long; exceeded max context length by 5000 tokens"),
    "llama.cpp": (
        400,
        "request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it",
    ),
    "mistral": (
        400,
        "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum "
        "context length",
    ),
    "together": (422, "Input validation error: `inputs` must have less than 8192 tokens. Given: 9000"),
    "xai": (
        400,
        "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
    ),
    "moonshot": (400, "Invalid request: Your request exceeded model token limit: 131072 (requested: 140000)"),
    "dashscope": (400, "Range of input length should be [1, 129024]"),
    "sglang": (400, "The input (5000 tokens) is longer than the model's context length (4096 tokens)."),
    "proxy": (413, "Request Entity Too Large"),
}


@pytest.mark.parametrize(("status", "said"), TOO_LONG.values(), ids=TOO_LONG)
def test_a_prompt_that_is_too_long_is_told_as_claude_code_reads_it(status: int, said: str) -> None:
    failure = from_status(status, said, {}).to_failure("any/model")
    assert failure.reason_name == "CONTEXT_TOO_LONG"
    assert "prompt is too long" in failure.message
    told = re.search(r"prompt is too long[^0-9]*(\d+)\s*tokens?\s*>\s*(\d+)", failure.message)
    assert told is None or int(told[1]) > int(told[2])


def test_the_tokens_of_a_prompt_and_its_limit_are_told_where_both_are_known() -> None:
    said = TOO_LONG["openrouter"][1]
    assert (
        "prompt is too long: 240000 tokens > 131072 maximum"
        in from_status(400, said, {}).to_failure("m").message
    )


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (429, "Too many tokens, please wait before trying again.", "rate"),
        (429, "Rate limit reached for requests", "rate"),
        (
            400,
            "Invalid 'tools[0].name': string too long. Expected a string with maximum length 64",
            "request",
        ),
        (404, "The model `x` does not exist", "model"),
        (403, "Your input was flagged for violence", "policy"),
        (400, "The response was filtered due to Azure OpenAI's content management policy.", "policy"),
        (402, "Insufficient credits", "credential"),
        (500, "Internal server error", "unavailable"),
        (503, "maximum context length is not known: overloaded", "unavailable"),
    ],
)
def test_other_errors_are_not_taken_for_it(status: int, said: str, kind: str) -> None:
    assert from_status(status, said, {}).kind == kind


@pytest.mark.parametrize(
    "said",
    [
        "image input is not supported by this model",
        "messages[7].content must be a string",
        "No endpoints found that support image input",
        "At most 0 image(s) may be provided in one prompt.",
        "unknown variant `image_url`, expected `text`",
        "Invalid content type. image_url is only supported by certain models.",
        "llava is not a multimodal model",
    ],
)
@pytest.mark.parametrize("status", [400, 404, 415, 422, 500])
def test_a_picture_that_a_model_does_not_take_is_told_as_claude_code_reads_it(status: int, said: str) -> None:
    failure = from_status(status, said, {}, frozenset({"image"})).to_failure("any/model")
    assert (failure.reason_name, failure.metadata["kind"]) == ("ATTACHMENT_UNSUPPORTED", "image")
    assert "could not process image" in failure.message
    # The same words are about something else when there is no picture.
    assert from_status(status, said, {}).kind != "image"


@pytest.mark.parametrize(
    ("said", "most"),
    [
        ("max_tokens is too large: 128000. This model supports at most 16384 completion tokens.", 16384),
        ("`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens`", 8192),
        ("max_tokens: 128000 > 64000, which is the maximum allowed number of output tokens", 64000),
        ("input length and `max_tokens` exceed context limit: 150000 + 128000 > 200000, decrease", 50000),
        (
            "'max_tokens' or 'max_completion_tokens' is too large: 32000. This model's maximum context "
            "length is 8192 tokens and your request has 1000 input tokens (32000 > 8192 - 1000).",
            7192,
        ),
        ("This model's maximum context length is 8192 tokens", 0),
    ],
)
def test_a_limit_of_output_tokens_is_read_off_its_error(said: str, most: int) -> None:
    assert from_status(400, said, {}).most_output == most


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"type":"error","error":{"type":"invalid_request_error","message":"why"}}', "why"),
        ('{"error":"why"}', "why"),
        ('{"detail":"why"}', "why"),
        ('{"detail":[{"loc":["body"],"msg":"why"}]}', "why"),
        ('{"object":"error","message":"why","code":400}', "why"),
        ('[{"error":{"code":400,"message":"why"}}]', "why"),
        (
            '{"error":{"message":"Provider returned error","metadata":{"raw":"{\\"error\\":\\"why\\"}"}}}',
            "why",
        ),
        ('{"message":"400 {\\"error\\": {\\"message\\": \\"why\\"}}"}', "why"),
        ("<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>", "502 Bad Gateway"),
        ("why", "why"),
        ("", "without saying why"),
        ('{"error":{"type":"odd"}}', "without saying why"),
    ],
)  # fmt: skip
def test_a_message_is_found_wherever_it_is(body: str, said: str) -> None:
    assert error_message(body.encode()) == said


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"type": "overloaded_error", "message": "busy"}, "unavailable"),
        ({"code": 429, "message": "slow down"}, "rate"),
        ({"code": "context_length_exceeded", "message": "maximum context length is 8192"}, "context"),
        ({"message": None}, "unavailable"),
        ({}, "unavailable"),
    ],
)
def test_an_error_in_a_stream_is_read_in_either_form(error: dict[str, object], kind: str) -> None:
    assert from_event(error).kind == kind
