#!/usr/bin/python3
"""Stands in for Claude Code: asks the model itself, and tells of the answer what the prompt names."""

import http.client
import json
import os
import socket
import sys

SESSION = next((a.split("=")[1] for a in sys.argv if a.startswith(("--session-id=", "--resume="))), "")

# Left open: what waits for the agent is gone with its call.
answers: list[http.client.HTTPResponse] = []


def send(message: object) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def answer(model: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(os.environ["ANTHROPIC_UNIX_SOCKET"])
    prompt = [{"role": "user", "content": "Speak"}]
    body = {"model": model, "max_tokens": 100, "stream": True, "messages": prompt}
    connection.request("POST", "/v1/messages", json.dumps(body), {"content-type": "application/json"})
    return connection.getresponse()


def act(how: str, model: str) -> None:
    """Tell that the message begins, and of its text, which is there when this returns, nothing at all."""
    answers.append(answer(model))
    for line in answers[-1]:
        if b'"message_start"' in line and line.startswith(b"data:"):
            event = json.loads(line[5:])
            if how == "another":
                event["message"]["id"] = "another"
            if how != "nothing":
                stream = {"type": "stream_event", "uuid": "u", "session_id": SESSION, "event": event}
                send({**stream, "parent_tool_use_id": None})
        if line.startswith(b"event: content_block_stop"):
            return


for line in sys.stdin:
    message = json.loads(line)
    if message["type"] == "control_request":
        able = {"hook_on_failure_supported": True}
        said = {"subtype": "success", "request_id": message["request_id"], "response": able}
        send({"type": "control_response", "response": said})
    elif message["type"] == "user":
        act(*message["message"]["content"].split())
        send(
            {
                "type": "result",
                "subtype": "success",
                "is_error": False,
                "duration_ms": 1,
                "duration_api_ms": 1,
                "num_turns": 1,
                "session_id": SESSION,
                "result": "done",
                "user_message_uuid": message["uuid"],
            }
        )
