"""The way out that an operator opens: to the hosts on the list, and nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from runner.egress import allows, is_public
from support.runner_house import new_id
from support.scripted_anthropic import Reply

OpenRunner = Callable[..., Any]
CONNECT = """
import socket
def ask(target):
    s = socket.create_connection(("127.0.0.1", 3128), timeout=5)
    s.sendall(f"CONNECT {target} HTTP/1.1\\r\\nHost: {target}\\r\\n\\r\\n".encode())
    answer = s.recv(100).split(b"\\r\\n")[0].decode()
    if " 200 " in answer:
        s.sendall(b"ping")
        answer += " " + s.recv(100).decode()
    print(target, answer.split(" ", 1)[1])
for target in TARGETS:
    ask(target)
"""


def connecting(targets: list[str]) -> list[Reply]:
    script = f"TARGETS = {targets!r}\n{CONNECT}"
    return [
        Reply.tool("Write", {"file_path": "/workspace/ask.py", "content": script}),
        Reply.tool("Bash", {"command": "sleep 0.3; python3 ask.py", "description": "Ask"}),
        Reply.text("Asked."),
    ]


async def test_hosts_on_the_list_are_reached_and_no_others(
    open_runner: OpenRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"pong" if await reader.read(4) == b"ping" else b"what?")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setattr("runner.egress.PORTS", frozenset({port}))
    # The one public host that a test has is this machine.
    monkeypatch.setattr("runner.egress.is_public", lambda address: address in ("127.0.0.1", "::1"))

    async def resolved(host: str, port: int) -> str | None:
        return "127.0.0.1" if host == "files.allowed.example" else None

    monkeypatch.setattr("runner.egress.public_address", resolved)
    targets = [
        f"files.allowed.example:{port}",
        f"inner.allowed.example:{port}",
        f"evil.example:{port}",
        "files.allowed.example:22",
        f"127.0.0.1:{port}",
    ]
    async with open_runner(connecting(targets), egress_allow="*.allowed.example") as house:
        result = await house.run(new_id(), "Ask")
        said = result.of("tool_result")[1].content.splitlines()
        assert said == [
            f"{targets[0]} 200 Connection Established pong",
            *(f"{target} 403 Forbidden" for target in targets[1:]),
        ]
    server.close()


async def test_without_a_list_there_is_no_door(open_runner: OpenRunner) -> None:
    async with open_runner(connecting(["files.example.com:443"])) as house:
        result = await house.run(new_id(), "Ask")
        assert "Connection refused" in result.of("tool_result")[1].content


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("a.b", True),
        ("x.c.d", True),
        ("y.x.c.d", True),
        ("c.d", False),
        ("evilc.d", False),
        ("a.b.evil", False),
    ],
)
def test_names_are_matched_by_whole_parts(host: str, allowed: bool) -> None:
    assert allows(["a.b", "*.c.d"], host) is allowed


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.17.0.1", "192.168.1.1", "169.254.169.254", "::1", "fd00::1", "0.0.0.0"],
)
def test_addresses_inside_are_not_the_world(address: str) -> None:
    assert not is_public(address)
