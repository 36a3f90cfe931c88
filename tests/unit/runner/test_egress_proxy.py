"""The forward proxy by itself, on a real socket: what it connects to, what it refuses, what it says of it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from runner.egress.egress import SOCKET_NAME, EgressProxy
from runner.egress.egress_lookup import Lookups
from runner.egress.egress_rules import EgressList
from structlog.testing import capture_logs

SECONDS = 60


@asynccontextmanager
async def proxy(folder: Path, listed: str, *hosts: str) -> AsyncIterator[Path]:
    """Open a proxy for a session that asks for these hosts, and yield its socket."""
    opened = EgressProxy(folder, os.geteuid(), EgressList.parse(listed), hosts, Lookups())
    opened.session = "sessions/one"
    await opened.open()
    try:
        yield folder / SOCKET_NAME
    finally:
        await opened.close()


async def said(socket: Path, request: str) -> bytes:
    """Send a request and return all that comes back."""
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_unix_connection(socket)
        writer.write(request.encode())
        answer = await reader.read()
        writer.close()
        return answer


async def test_a_listed_name_of_this_machine_leads_nowhere(tmp_path: Path) -> None:
    reached = asyncio.Event()

    async def inside(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.set()
        writer.close()

    server = await asyncio.start_server(inside, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    # By the system's own resolver: a name and an address, as an operator might list them.
    async with proxy(tmp_path, f"localhost:{port},127.0.0.1:{port}", "localhost", "127.0.0.1") as socket:
        for host in ("localhost", "127.0.0.1"):
            answer = await said(socket, f"CONNECT {host}:{port} HTTP/1.1\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 403 ")
    server.close()
    assert not reached.is_set()


@pytest.mark.parametrize(
    "request_line",
    [
        "GET http://files.example/secret?token=1 HTTP/1.1",
        "CONNECT files.example HTTP/1.1",
        "CONNECT files.example:0443 HTTP/2",
        "CONNECT files.example:99999 HTTP/1.1",
        "CONNECT files.example.:443 HTTP/1.1",
        "CONNECT [::1]:443 HTTP/1.1",
        "CONNECT .files.example:443 HTTP/1.1",
        "CONNECT a..files.example:443 HTTP/1.1",
        f"CONNECT {'a' * 64}.files.example:443 HTTP/1.1",
        f"CONNECT {'a.' * 130}files.example:443 HTTP/1.1",
        "CONNECT user@files.example:443 HTTP/1.1",
        "CONNECT other.example@files.example:443 HTTP/1.1",
    ],
)
async def test_all_but_a_plain_connect_is_refused(tmp_path: Path, request_line: str) -> None:
    async with proxy(tmp_path, "files.example,*.files.example", "files.example", "*.files.example") as socket:
        assert (await said(socket, f"{request_line}\r\n\r\n")).startswith(b"HTTP/1.1 403 ")


async def test_the_log_has_hosts_and_nothing_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(4)
        writer.write(b"done")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    def resolved(host: str, port: int) -> list[str]:
        # The first of them does not answer: nothing listens there.
        return ["127.0.0.2", "127.0.0.1"]

    monkeypatch.setattr("runner.egress.egress_lookup.addresses_of", resolved)
    monkeypatch.setattr("runner.egress.egress.is_public", lambda address: address.startswith("127."))
    async with proxy(tmp_path, f"*.example:{port}", "files.example") as socket:
        with capture_logs() as lines:
            connect = f"CONNECT files.example:{port} HTTP/1.1\r\nx-secret: one\r\n\r\ntwo!"
            assert (await said(socket, connect)).endswith(b"\r\n\r\ndone")
            await said(socket, f"CONNECT other.example:{port} HTTP/1.1\r\n\r\n")
    server.close()
    where = {"session": "sessions/one", "port": port, "log_level": "info"}
    assert lines == [
        {"event": "egress", "host": "files.example", **where},
        {"event": "egress_refused", "host": "other.example", "why": "not on the list", **where},
    ]


@asynccontextmanager
async def slow_download(monkeypatch: pytest.MonkeyPatch, idle: float) -> AsyncIterator[int]:
    """Serve five pieces, each after most of the time that a connection may idle; yield the port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(5):
            writer.write(b"piece")
            await writer.drain()
            await asyncio.wait({never}, timeout=idle * 0.6)
        # And then nothing more, until the other side goes.
        await reader.read()
        writer.close()

    never = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    monkeypatch.setattr("runner.egress.egress._IDLE_SECONDS", idle)
    monkeypatch.setattr("runner.egress.egress_lookup.addresses_of", lambda host, port: ["127.0.0.1"])
    monkeypatch.setattr("runner.egress.egress.is_public", lambda address: True)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_what_moves_one_way_only_goes_on_and_what_idles_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a machine that stands still, what should move idles, too: then with more time.
    for idle in (0.4, 2, 10):
        async with (
            slow_download(monkeypatch, idle) as port,
            proxy(tmp_path, f"*.example:{port}", "files.example") as socket,
        ):
            answer = await said(socket, f"CONNECT files.example:{port} HTTP/1.1\r\n\r\n")
        if answer.endswith(b"\r\n\r\n" + b"piece" * 5):
            return
    pytest.fail(f"cut although it moved: {answer!r}")


async def test_a_lookup_that_hangs_takes_a_slot_of_its_own_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang, looked = threading.Event(), []

    def addresses(host: str, port: int) -> list[str]:
        looked.append(host)
        if host.startswith("slow"):
            hang.wait(SECONDS)
        return ["10.0.0.1"]

    monkeypatch.setattr("runner.egress.egress_lookup.addresses_of", addresses)
    monkeypatch.setattr("runner.egress.egress._CONNECT_SECONDS", 1.0)
    async with proxy(tmp_path, "*.example", "*.example") as socket:
        asking = [said(socket, f"CONNECT slow{n}.example:443 HTTP/1.1\r\n\r\n") for n in range(10)]
        # Each is told within its time, and no more than two threads are at it, though nobody waits any more.
        assert set(await asyncio.gather(*asking)) == {b""}
        assert len(looked) == 2
        hang.set()
        monkeypatch.setattr("runner.egress.egress._CONNECT_SECONDS", 60.0)
        assert (await said(socket, "CONNECT fast.example:443 HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 403 ")


async def test_without_hosts_there_is_no_socket(tmp_path: Path) -> None:
    async with proxy(tmp_path, "*.example") as socket:
        assert not socket.exists()
