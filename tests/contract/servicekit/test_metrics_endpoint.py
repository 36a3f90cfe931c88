"""The endpoint of metrics, over a real socket: for our own hosts, and bounded."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import pytest
from servicekit.http import metrics_endpoint as module
from servicekit.http.hosts import AllowedHosts
from servicekit.http.metrics_endpoint import metrics_endpoint


def answer(port: int, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(sent)
        received = b""
        try:
            while piece := connection.recv(65536):
                received += piece
        except ConnectionResetError:
            pass
        return received


def get(host: str, path: str = "/metrics", method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def test_it_answers_scrapers_and_refuses_pages_of_other_names() -> None:
    with metrics_endpoint("127.0.0.1:0", AllowedHosts.parse("metrics.example")) as port:
        for host in ("localhost", f"127.0.0.1:{port}", "session:9002", "metrics.example"):
            assert b" 200 " in answer(port, get(host)).partition(b"\r\n")[0]
        assert b"python_info" in answer(port, get("localhost"))
        refused = answer(port, get("evil.example"))
        assert b" 421 " in refused.partition(b"\r\n")[0]
        assert b"POINTSMAN_PUBLIC_HOSTS" in refused
        assert b"python_info" not in refused
        assert b" 421 " in answer(port, b"GET /metrics HTTP/1.0\r\n\r\n").partition(b"\r\n")[0]
        assert b" 404 " in answer(port, get("localhost", "/config")).partition(b"\r\n")[0]


@pytest.mark.parametrize(
    "sent",
    [b"nonsense\r\n\r\n", get("localhost", method="POST"), b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
     b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 500 + b"\r\n"],
)  # fmt: skip
def test_other_requests_get_a_plain_refusal(sent: bytes) -> None:
    with metrics_endpoint("127.0.0.1:0") as port:
        received = answer(port, sent)
    assert b"<" not in received
    assert received[9:10] in (b"4", b"5") or b"400" in received or received == b""


def test_slow_clients_are_cut_and_only_a_few_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SECONDS", 0.5)
    with metrics_endpoint("127.0.0.1:0") as port:
        slow = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(100)]
        for connection in slow:
            connection.sendall(b"GET / HTTP/1.1\r\n")
        assert sum("process_request_thread" in thread.name for thread in threading.enumerate()) <= 16
        for connection in slow:
            with suppress(ConnectionResetError):
                assert connection.recv(1) == b""
            connection.close()
        assert b" 200 " in answer(port, get("localhost"))
