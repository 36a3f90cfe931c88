#!/usr/bin/python3
"""Stands in for Claude Code in a sandbox, and misbehaves in the way that the prompt names."""

import json
import os
import sys
import time

SESSION = next((a.split("=")[1] for a in sys.argv if a.startswith(("--session-id=", "--resume="))), "")
out = sys.stdout.buffer
PROMPT = {"uuid": ""}


def send(message: object) -> None:
    out.write(json.dumps(message).encode() + b"\n")
    out.flush()


def text(said: str) -> dict[str, object]:
    return {
        "type": "assistant",
        "session_id": SESSION,
        "parent_tool_use_id": None,
        "message": {
            "id": "m1",
            "model": "x",
            "role": "assistant",
            "content": [{"type": "text", "text": said}],
        },
    }


def result(said: object = "done", **more: object) -> dict[str, object]:
    return {
        "type": "result",
        "subtype": "success",
        "is_error": False,
        "duration_ms": 1,
        "duration_api_ms": 1,
        "num_turns": 1,
        "session_id": SESSION,
        "result": said,
        "user_message_uuid": PROMPT["uuid"],
        "total_cost_usd": 1e9,
        **more,
    }


def hook(number: int, response: object) -> dict[str, object]:
    request = {
        "subtype": "hook_callback",
        "callback_id": "hook_1",
        "tool_use_id": f"t{number}",
        "input": {"hook_event_name": "PostToolUse", "tool_name": "Write", "tool_response": response},
    }
    return {"type": "control_request", "request_id": f"r{number}", "request": request}


def mirror(path: str, entries: list[object]) -> dict[str, object]:
    return {"type": "transcript_mirror", "filePath": path, "entries": entries}


def act(mode: str) -> None:  # noqa: PLR0912 - one branch for each way to misbehave
    if mode == "good":
        send(text("hello"))
    elif mode == "garbage":
        out.write(b'{"type": "assistant", oh no\n')
        out.flush()
    elif mode == "endless-line":
        while True:
            out.write(b"{" + b"x" * (1 << 20))
    elif mode == "flood":
        while True:
            send(text("y" * 100_000))
    elif mode == "deltas":
        event = {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": "y" * 999},
        }
        while True:
            send({"type": "stream_event", "uuid": "u", "session_id": SESSION, "event": event})
    elif mode == "deep":
        out.write(b'{"type":"assistant","message":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n")
        out.flush()
    elif mode == "many-values":
        out.write(b'{"type":"x","a":[' + b"[]," * 3_000_000 + b"[]]}\n")
        out.flush()
    elif mode == "nested":
        out.write(b'{"a":' * 500 + b"1" + b"}" * 500 + b"\n")
        out.flush()
    elif mode == "requests":
        for number in range(10_000_000):
            send(hook(number, {"filePath": "/workspace/x", "type": "create", "content": "y" * 1000}))
    elif mode == "misshapen":
        send({"type": "assistant", "message": None})
    elif mode == "odd-shapes":
        send({"type": "nobody knows"})
        send({"type": "system", "subtype": "api_retry", "attempt": -5, "max_retries": "many"})
        send({"type": "stream_event", "uuid": "u", "session_id": "s", "event": {"type": 7, "delta": []}})
        odd = [
            {
                "type": "tool_use",
                "id": "t",
                "name": "\ud800\x00",
                "input": {"a": float("1e308"), "b": [[[]]] * 3},
            },
            {"type": "text", "text": "\ud800 lone \x00 nul \u202e"},
        ]
        body = {"id": "m", "model": "x", "role": "assistant", "content": odd}
        send({"type": "assistant", "session_id": SESSION, "parent_tool_use_id": None, "message": body})
    elif mode == "bad-utf8":
        out.write(b'{"type":"system","subtype":"x","text":"\xff"}\n')
        out.flush()
    elif mode == "foreign-paths":
        for number, path in enumerate(
            ["/etc/passwd", "/workspace/../etc/shadow", "relative", "/workspace", 7, None]
        ):
            send(hook(number, {"filePath": path, "type": "create", "content": "x"}))
        send(
            hook(
                99,
                {"filePath": "/workspace/mine", "type": "update", "structuredPatch": [7, {"lines": [None]}]},
            )
        )
        time.sleep(0.3)
    elif mode == "foreign-transcript":
        other = "00000000-0000-4000-8000-000000000000"
        for path in (f"/home/agent/.claude/projects/-workspace/{other}.jsonl", "/etc/passwd", "../../x"):
            send(mirror(path, [{"type": "user", "uuid": "u-" + path, "sessionId": other}]))
    elif mode == "stall":
        time.sleep(3600)
    elif mode == "exits":
        os._exit(3)
    elif mode == "foreign-results":
        send(result("not yours", user_message_uuid=None))
        send(result("not yours", user_message_uuid=None, user_message_uuids=[]))
        send(result("not yours", user_message_uuid=SESSION, user_message_uuids=[SESSION, 7, None]))
        send(result("yours", user_message_uuid=SESSION, user_message_uuids=[SESSION, PROMPT["uuid"]]))
    elif mode == "huge-result":
        send(result("z" * 10_000_000))
    send(result())


for line in sys.stdin:
    message = json.loads(line)
    if message["type"] == "control_request":
        able = {"hook_on_failure_supported": True}
        answer = {"subtype": "success", "request_id": message["request_id"], "response": able}
        if "SILENT" not in os.environ:
            send({"type": "control_response", "response": answer})
    elif message["type"] == "user":
        PROMPT["uuid"] = message["uuid"]
        act(message["message"]["content"])
