"""The HTTP endpoint that Prometheus reads a service's metrics from."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from socket import socket
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from servicekit.config import ConfigError
from servicekit.errors import Failure
from servicekit.http.hosts import AllowedHosts

# A scraper sends a few hundred bytes at once; who takes longer keeps a thread of ours.
_SECONDS: Final = 5.0
_CONNECTIONS: Final = 16


@contextmanager
def metrics_endpoint(address: str, hosts: AllowedHosts | None = None) -> Iterator[int]:
    """Serve `GET /metrics` at `host:port` while inside; gives the port. Empty: serve none.

    Each connection carries one request, of which no body is read, and at most 16 are open at a time. Raises
    ConfigError when the address cannot be had.
    """
    if not address:
        yield 0
        return
    host, _, port = address.rpartition(":")
    try:
        server = _Server((host, int(port)), hosts or AllowedHosts())
    except OSError as error:
        raise ConfigError(
            f"POINTSMAN_METRICS_ADDRESS: cannot listen on {address}: {error.strerror}"
        ) from error
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingMixIn, TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], hosts: AllowedHosts) -> None:
        super().__init__(address, _Handler)
        self.hosts = hosts
        self._free = threading.Semaphore(_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a connection, or close it when too many are open."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection. A slow one is cut after five seconds, however often it sends a byte."""
        cutting = threading.Timer(_SECONDS, _cut, (request,))
        cutting.daemon = True
        cutting.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            cutting.cancel()
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that broke off."""


def _cut(connection: socket) -> None:
    try:
        connection.shutdown(2)
    except OSError:
        # It was over in the same moment.
        return


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _SECONDS
    server_version = "pointsman"
    sys_version = ""
    error_message_format = "%(code)d %(message)s\n"
    error_content_type = "text/plain; charset=utf-8"

    def do_GET(self) -> None:
        try:
            self.server.hosts.check(self.headers.get("Host", ""))
        except Failure as failure:
            self._answer(421, f"{failure.message}\n".encode(), self.error_content_type)
            return
        if self.path.partition("?")[0] not in ("/", "/metrics"):
            self._answer(
                404, b"There is no such path here. There is: GET /metrics.\n", self.error_content_type
            )
            return
        self._answer(200, generate_latest(REGISTRY), CONTENT_TYPE_LATEST)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing: scrapes come every few seconds."""
