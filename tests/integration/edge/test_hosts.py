"""Which hosts the edge answers for, and what of Envoy itself can be reached."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf import empty_pb2
from google.rpc import error_details_pb2, status_pb2
from supervisor.edge import allowed_hosts
from supervisor.edge_admin import ask_envoy
from support.suite import descendants

HEALTH = "/grpc.health.v1.Health/Check"
REFUSED = ["evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1"]
REFUSED += ["localhost:80:80", "localhost@evil.example", "sites.example", "xagents.example.com", "127.0.0.11"]
ANSWERED = [
    "localhost",
    "LOCALHOST:{port}",
    "127.0.0.1:{port}",
    "[::1]:{port}",
    "agents.example.com",
    "a.sites.example",
]


@pytest.mark.parametrize("host", REFUSED)
@pytest.mark.parametrize("path", ["/healthz", "/", "/v1/models", "/openapi.json", "/llm/v1/models"])
async def test_another_sites_name_for_this_machine_is_refused(edge: Any, host: str, path: str) -> None:
    answer = await edge.http.get(path, headers={"host": host, **edge.key})
    assert answer.status_code == 403
    said = answer.json()
    if path.startswith("/llm/"):
        # In the shape of Anthropic's API.
        assert said["error"]["type"] == "permission_error"
        assert "POINTSMAN_PUBLIC_HOSTS" in said["error"]["message"]
        assert answer.headers["x-should-retry"] == "false"
        return
    assert said["code"] == 7
    assert said["details"][0]["reason"] == "HOST_NOT_ALLOWED"
    assert "POINTSMAN_PUBLIC_HOSTS" in said["message"]


@pytest.mark.parametrize("host", ANSWERED)
async def test_names_of_loopback_and_of_the_operator_are_answered(edge: Any, host: str) -> None:
    answer = await edge.http.get("/healthz", headers={"host": host.format(port=edge.port)})
    assert answer.status_code == 200


async def test_grpc_with_another_sites_name_is_refused_with_the_same_reason(edge: Any) -> None:
    options = [("grpc.default_authority", "evil.example"), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{edge.port}", options=options) as channel:
        call = channel.unary_unary(
            HEALTH,
            request_serializer=empty_pb2.Empty.SerializeToString,
            response_deserializer=empty_pb2.Empty.FromString,
        )
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call(empty_pb2.Empty(), timeout=60)
    assert raised.value.code() == grpc.StatusCode.PERMISSION_DENIED
    trailing: Any = raised.value.trailing_metadata()
    info = error_details_pb2.ErrorInfo()
    status = status_pb2.Status.FromString(dict(trailing)["grpc-status-details-bin"])
    assert status.details[0].Unpack(info)
    assert (info.reason, status.message) == ("HOST_NOT_ALLOWED", raised.value.details())


async def test_an_event_stream_of_another_site_cannot_begin(edge: Any) -> None:
    answer = await edge.http.post(
        "/v1/turns:run", json={"prompt": "x"}, headers={"host": "evil.example", "accept": "text/event-stream"}
    )
    assert answer.status_code == 403


async def test_metrics_are_served_and_nothing_else_of_the_administration(edge: Any) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{edge.metrics_port}", trust_env=False) as http:
        answer = await http.get("/stats/prometheus")
        assert answer.status_code == 200
        assert re.search(r"^envoy_http_downstream_rq_total\{", answer.text, re.MULTILINE)
        refused = [
            ("GET", "/"), ("GET", "/config_dump"), ("GET", "/stats"), ("GET", "/ready"),
            ("GET", "/stats/prometheus/../../config_dump"), ("POST", "/stats/prometheus"),
            ("GET", "/stats/prometheus%2f..%2f..%2fconfig_dump"), ("POST", "/logging?level=debug"),
            ("POST", "/quitquitquit"), ("POST", "/drain_listeners"),
        ]  # fmt: skip
        for method, path in refused:
            assert (await http.request(method, path)).status_code == 404, path
        answer = await http.get("/stats/prometheus", headers={"host": "evil.example"})
        assert answer.status_code == 403


async def test_the_administration_is_a_socket_for_its_own_user_and_on_no_port(edge: Any) -> None:
    folder: Path = edge.log.parent
    assert stat.S_IMODE((folder / "admin.sock").stat().st_mode) == 0o600
    assert ask_envoy(folder, "ready") == b"LIVE\n"
    ran = subprocess.run(  # noqa: ASYNC221 - a moment
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "python3", "-c", _CONNECT],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "PermissionError" in ran.stderr or "Permission denied" in ran.stderr
    listening = _listening(folder)
    assert listening == {edge.port, edge.metrics_port}


def _listening(folder: Path) -> set[int]:
    """Return the TCP ports on which the Envoy with its files in this folder listens."""
    sockets: set[str] = set()
    for pid in descendants(os.getpid()):
        # Another suite of this test run has an Envoy of its own.
        if str(folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            sockets |= {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {
        int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets
    }


_CONNECT = "import socket; socket.socket(socket.AF_UNIX).connect('admin.sock')"


def test_an_edge_that_is_open_to_a_network_answers_for_any_host_until_it_is_told_which() -> None:
    assert allowed_hosts("0.0.0.0", []) is None
    assert allowed_hosts("192.0.2.1", ["a.example"]) == ["localhost", "127.0.0.1", "[::1]", "a.example"]
    for loopback in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        assert allowed_hosts(loopback, []) == ["localhost", "127.0.0.1", "[::1]"]
