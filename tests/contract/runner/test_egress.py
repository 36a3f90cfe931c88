"""The way out that an operator opens and a session asks for: to hosts by name, and nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.runner.v1 import runner_service_pb2 as pb
from pointsman.session.v1 import event_pb2
from runner.egress.egress_rules import EgressList, allows
from servicekit.addresses import is_public
from servicekit.errors import Failure
from support.runner_house import new_id
from support.scripted_anthropic import Reply

OpenRunner = Callable[..., Any]
CONNECT = """
import socket, time
def reached():
    # The door is opened beside the agent.
    for wait in range(TRIES):
        try:
            return socket.create_connection(("127.0.0.1", 3128), timeout=60)
        except ConnectionRefusedError as error:
            refused = error
            time.sleep(0.1)
    raise refused
def ask(target):
    s = reached()
    s.sendall(f"CONNECT {target} HTTP/1.1\\r\\nHost: {target}\\r\\n\\r\\n".encode())
    answer = s.recv(100).split(b"\\r\\n")[0].decode()
    if " 200 " in answer:
        s.sendall(b"ping")
        answer += " " + s.recv(100).decode()
    print(target, answer.split(" ", 1)[1])
for target in TARGETS:
    ask(target)
"""


def connecting(targets: list[str], tries: int = 300) -> list[Reply]:
    script = f"TARGETS, TRIES = {targets!r}, {tries}\n{CONNECT}"
    return [
        Reply.tool("Write", {"file_path": "/workspace/ask.py", "content": script}),
        Reply.tool("Bash", {"command": "python3 ask.py", "description": "Ask"}),
        Reply.text("Asked."),
    ]


def asking_for(*hosts: str) -> pb.SandboxSettings:
    return pb.SandboxSettings(egress_hosts=hosts)


@pytest.fixture
async def far_away(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """Serve on a port of this machine, which stands for the public one that a test does not have.

    Names are resolved here: `*.allowed.example` is that host; `inner.` has an address inside beside it; and
    `turning.` is that host when it is asked first and an address inside ever after.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"pong" if await reader.read(4) == b"ping" else b"what?")
        await writer.drain()
        writer.close()

    asked: list[str] = []

    def resolved(host: str, port: int) -> list[str]:
        asked.append(host)
        if host == "inner.allowed.example":
            return ["127.0.0.1", "10.0.0.1"]
        if host == "turning.allowed.example" and asked.count(host) > 1:
            return ["169.254.169.254"]
        return ["127.0.0.1"] if host.endswith(".allowed.example") else []

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    monkeypatch.setattr("runner.egress.egress_lookup.addresses_of", resolved)
    monkeypatch.setattr("runner.egress.egress.is_public", lambda address: address == "127.0.0.1")
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_a_session_reaches_what_it_asked_for_of_what_is_listed_and_nothing_else(
    open_runner: OpenRunner, far_away: int
) -> None:
    targets = [
        f"files.allowed.example:{far_away}",
        f"inner.allowed.example:{far_away}",
        f"turning.allowed.example:{far_away}",
        f"turning.allowed.example:{far_away}",
        f"other.allowed.example:{far_away}",
        f"evil.example:{far_away}",
        "files.allowed.example:22",
        "files.allowed.example:443",
        f"127.0.0.1:{far_away}",
    ]
    listed = f"*.allowed.example:{far_away},evil.example"
    settings = asking_for("files.allowed.example", "inner.allowed.example", "turning.allowed.example")
    async with open_runner(connecting(targets), egress_allow=listed) as house:
        result = await house.run(new_id(), "Ask", sandbox=settings)
        said = result.of("tool_result")[1].content.splitlines()
        assert said == [
            f"{targets[0]} 200 Connection Established pong",
            f"{targets[1]} 403 Forbidden",
            f"{targets[2]} 200 Connection Established pong",
            *(f"{target} 403 Forbidden" for target in targets[3:]),
        ]


async def test_a_session_that_asks_for_nothing_has_no_door(open_runner: OpenRunner) -> None:
    async with open_runner(
        connecting(["files.example.com:443"], tries=3), egress_allow="files.example.com"
    ) as house:
        result = await house.run(new_id(), "Ask")
        assert "Connection refused" in result.of("tool_result")[1].content


async def test_what_the_operator_does_not_list_is_refused_by_name(open_runner: OpenRunner) -> None:
    async with open_runner([Reply.text("Hi.")], egress_allow="*.allowed.example") as house:
        session, settings = new_id(), asking_for("files.allowed.example", "evil.example")
        result = await house.run(session, "Ask", sandbox=settings)
        assert result.finished.error.reason == errors_pb2.ERROR_REASON_EGRESS_NOT_ALLOWED
        assert result.finished.error.metadata["host"] == "evil.example"
        request = pb.PrepareSandboxRequest(session=f"sessions/{session}", account="default", sandbox=settings)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await house.stub().PrepareSandbox(request, metadata=house.metadata(), timeout=60)
        failure = Failure.from_rpc_error(caught.value, service="runner")
        assert failure.reason == errors_pb2.ERROR_REASON_EGRESS_NOT_ALLOWED
        request.sandbox.CopyFrom(asking_for("files.allowed.example"))
        await house.stub().PrepareSandbox(request, metadata=house.metadata(), timeout=60)


async def test_hosts_that_change_boot_the_agent_anew_and_the_same_ones_keep_it_warm(
    open_runner: OpenRunner,
) -> None:
    async with open_runner([Reply.text("Hi.")], egress_allow="*.allowed.example") as house:
        session, both = new_id(), ["a.allowed.example", "b.allowed.example"]
        await house.run(session, "One", sandbox=asking_for(*both))
        again = await house.run(session, "Two", sandbox=asking_for(*reversed(both)))
        assert "sandbox_changed" not in again.kinds
        changed = await house.run(session, "Three", sandbox=asking_for(both[0]))
        assert changed.of("sandbox_changed")[-1].state == event_pb2.SANDBOX_STATE_RESUMED
        assert "One" in str(house.model.prompts[-1]["messages"])


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
    ("host", "allowed"),
    [
        ("a.b", True),
        ("x.c.d", True),
        ("*.c.d", True),
        ("*.x.c.d", True),
        ("*.a.b", False),
        ("*.d", False),
        ("*.evilc.d", False),
        ("git.e", True),
    ],
)
def test_what_is_asked_for_has_to_be_listed_whole(host: str, allowed: bool) -> None:
    listed = EgressList.parse("A.b,*.c.d,git.e:22")
    if allowed:
        listed.check([host])
    else:
        with pytest.raises(Failure):
            listed.check([host])


@pytest.mark.parametrize(
    ("host", "port", "allowed"),
    [("a.b", 443, True), ("a.b", 80, True), ("a.b", 22, False), ("git.e", 22, True), ("git.e", 443, False)],
)
def test_ports_are_those_of_the_web_unless_one_is_listed(host: str, port: int, allowed: bool) -> None:
    assert EgressList.parse("a.b,git.e:22").allows(host, port) is allowed


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.17.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "0.0.0.0",
        "::",
        "::1",
        "fd00::1",
        "fe80::1%lo",
        "ff02::1",
        "::ffff:10.0.0.1",
        "::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "fec0::1",
        "192.0.0.192",
        "192.88.99.1",
        "2002:7f00:1::",
    ],
)
def test_addresses_inside_are_not_the_world(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_addresses_outside_are(address: str) -> None:
    assert is_public(address)
