"""A body goes on to a provider only if every reader understands the same: keys, and what images hold."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from support.llm_proxy_house import ProxyHouse, Reply

ASK: dict[str, Any] = {
    "model": "demo/offline",
    "max_tokens": 5,
    "messages": [{"role": "user", "content": "2+2"}],
}
BLOCK = '{"model":"demo/offline","max_tokens":5,"messages":[{"role":"user","content":[%s]}]}'
MESSAGE = '{"model":"demo/offline","max_tokens":5,"messages":[{"role":"user","content":"x"%s}]%s}'
SCHEMA = '{"model":"demo/offline","tools":[{"name":"t","input_schema":{%s}}],'
TAIL = '"max_tokens": 5, "messages": [{"role": "user", "content": "2+2"}]}'
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


async def asked(house: ProxyHouse, body: Any, path: str = "/v1/messages") -> Reply:
    raw = body.encode() if isinstance(body, str) else body
    return await house.post(path, raw, {"x-api-key": await house.token()})


async def complaint(house: ProxyHouse, body: Any, path: str = "/v1/messages") -> str:
    reply = await asked(house, body, path)
    assert (reply.status, reply.headers["x-pointsman-reason"]) == (400, "INVALID_FIELD"), reply.text
    return str(reply.json["error"]["message"])


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
@pytest.mark.parametrize(
    ("body", "key"),
    [
        ('{"model": "demo/offline", "model": "other/x", ' + TAIL, "model"),
        ('{"model":"demo/offline","mod\\u0065l":"other/x",' + TAIL, "model"),
        (MESSAGE % ("", ',"max_tokens":5'), "max_tokens"),
        ('{"x": {"deep": [{"a": 1, "a": 2}]}, "model": "demo/offline", ' + TAIL, "a"),
        (BLOCK % '{"type":"text","text":"x","type":"image"}', "type"),
        (SCHEMA % '"type":"object","type":"array"' + TAIL, "type"),
        ('{"model": "demo/offline", "API_BASE": "http://evil.example", ' + TAIL, "API_BASE"),
        ('{"model": "demo/offline", "Model": "other/x", ' + TAIL, "Model"),
        ('{"model": "demo/offline", "api_\\u212Aey": "x", ' + TAIL, "api_\\u212aey"),
        ('{"model": "demo/offline", "api_ba\\u017fe": "x", ' + TAIL, "api_ba\\u017fe"),
        (MESSAGE % (',"Content":"y"', ""), "Content"),
        (BLOCK % '{"type":"image","source":{"type":"text","Type":"url"}}', "Type"),
        ('{"model": "demo/offline", "x": {"Extra_Headers": 1}, ' + TAIL, "Extra_Headers"),
    ],
)  # fmt: skip
async def test_a_key_that_comes_twice_or_in_another_case_is_named(
    demo: ProxyHouse, body: str, key: str, path: str
) -> None:
    assert (await complaint(demo, body, path)).startswith(f"{key}: ")


async def test_schemas_and_arguments_may_have_any_keys(demo: ProxyHouse) -> None:
    tool = {
        "name": "t",
        "input_schema": {
            "type": "object",
            "properties": {"ID": {"type": "string"}, "id": {"type": "string"}},
        },
    }
    call = {"type": "tool_use", "id": "1", "name": "t", "input": {"API_BASE": "é"}}
    used = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "\ud83d"}]},
    ]
    for ascii_only in (True, False):
        body = json.dumps({**ASK, "tools": [tool], "messages": used}, ensure_ascii=ascii_only)
        if ascii_only:
            assert (await asked(demo, body)).status == 200
        else:
            assert (await asked(demo, body.replace("\ud83d", "").encode())).status == 200


def image(data: Any, media_type: Any = "image/png", kind: str = "image") -> bytes:
    source = {"type": "base64", "media_type": media_type, "data": data}
    block = {"type": kind, "source": source}
    return json.dumps({**ASK, "messages": [{"role": "user", "content": [block]}]}).encode()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    ("data", "media_type", "kind"),
    [
        (b64(PNG), "image/png", "image"), (b64(b"GIF89a" + bytes(40)), "image/gif", "image"),
        (b64(b"\xff\xd8\xff\xe0" + bytes(40)), "image/jpeg", "image"),
        (b64(b"RIFF\0\0\0\0WEBPVP8 " + bytes(40)), "image/webp", "image"),
        (b64(b"%PDF-1.7" + bytes(3_000_000)), "application/pdf", "document"),
        (b64(PNG + bytes(1)), "image/png", "image"), (b64(PNG + bytes(2)), "image/png", "image"),
    ],
)  # fmt: skip
async def test_images_and_documents_that_are_what_they_say_pass(
    demo: ProxyHouse, data: str, media_type: str, kind: str
) -> None:
    assert (await asked(demo, image(data, media_type, kind))).status == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (image("not base64!"), "data"), (image(b64(PNG)[:-1]), "data"), (image("=" * 40), "data"),
        (image(b64(PNG)[:20] + "\n" + b64(PNG)[20:]), "data"),
        (image(b64(PNG)[:20] + "====" + b64(PNG)[24:]), "data"),
        (image(b64(PNG).replace("A", "-")), "data"), (image(""), "data"), (image(5), "data"),
        (image("é" * 40), "data"),
        (image(b64(b"GIF89a" + bytes(40))), "data"), (image(b64(PNG), "image/jpeg"), "data"),
        (image(b64(b"RIFF\0\0\0\0WAVEfmt " + bytes(40)), "image/webp"), "data"),
        (image(b64(PNG), "image/svg+xml"), "media_type"), (image(b64(PNG), "IMAGE/PNG"), "media_type"),
        (image(b64(PNG), None), "media_type"), (image(b64(PNG), "application/pdf"), "media_type"),
        (image(b64(PNG), "application/pdf", "document"), "data"),
        (image(b64(PNG), "image/png", "document"), "media_type"),
        (image(b64(PNG + bytes(4_000_000))), "data"),
    ],
)  # fmt: skip
async def test_what_is_no_image_or_document_is_refused_with_its_place(
    demo: ProxyHouse, body: bytes, field: str
) -> None:
    assert (await complaint(demo, body)).startswith(f"messages[0].content[0].source.{field}: ")


async def test_images_in_a_tools_result_are_checked_as_well(demo: ProxyHouse) -> None:
    inner = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "xxxx"}}
    result = {"type": "tool_result", "tool_use_id": "x", "content": [inner]}
    body = json.dumps({**ASK, "messages": [{"role": "user", "content": [result]}]})
    assert (await complaint(demo, body)).startswith("messages[0].content[0].content[0].source.data: ")


@pytest.mark.parametrize("name", ["anthropic-beta", "anthropic-version"])
async def test_headers_that_go_on_hold_text_only(demo: ProxyHouse, name: str) -> None:
    reply = await demo.post("/v1/messages", ASK, {"x-api-key": await demo.token(), name: "caf\u00e9"})
    assert (reply.status, reply.json["error"]["message"].startswith(f"{name}: ")) == (400, True)
