"""A real Envoy with the real configuration before scripted services."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
import httpx
import pytest
from servicekit.testing import free_port, wait_until
from supervisor.edge import Edge, Tls, allowed_hosts, envoy_binary, envoy_command, render
from support.edge_peers import KEY, Peers, peers
from support.frozen import Forwarder, forwarding

DEPLOY = Path(__file__).resolve().parents[3] / "deploy" / "envoy"
ORIGIN = "https://app.example.com"


@dataclass(frozen=True)
class RunningEdge:
    """The edge under test."""

    port: int
    peers: Peers
    http: httpx.AsyncClient
    """Speaks to it, without a key."""
    channel: grpc.aio.Channel
    log: Path
    """Lies in the folder that Envoy was started in."""
    metrics_port: int
    forwarders: Mapping[str, Forwarder]
    """By the field of `Edge` that it stands before; empty unless asked for."""

    @property
    def key(self) -> dict[str, str]:
        """The header that lets one in."""
        return {"authorization": f"Bearer {KEY}"}


@asynccontextmanager
async def envoy(edge: Edge, directory: Path, changes: Mapping[str, str]) -> AsyncIterator[Path]:
    """Run Envoy until it is not needed any more; yields its log, that of its accesses included."""
    binary = envoy_binary()
    assert binary is not None
    configuration = directory / "envoy.yaml"
    text = (DEPLOY / "envoy.yaml").read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    configuration.write_text(render(text, edge))
    log = directory / "envoy.log"
    with log.open("wb") as output:
        command = [
            *envoy_command(binary, configuration),
            "--concurrency",
            "1",
            "--file-flush-interval-msec",
            "50",
        ]
        process = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output, cwd=directory)
        try:
            yield log
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[RunningEdge]:
    """An edge with all its peers, ready."""
    async with running_edge(tmp_path) as started:
        yield started


@pytest.fixture
async def tls_edge(tmp_path: Path) -> AsyncIterator[RunningEdge]:
    """The same behind a certificate for `localhost`, `server.pem` in `tmp_path`."""
    async with running_edge(tmp_path, self_signed(tmp_path)) as started:
        yield started


@pytest.fixture
async def freezable_edge(tmp_path: Path) -> AsyncIterator[RunningEdge]:
    """The same with a forwarder before each service."""
    names = ("router", "session", "llm_proxy", "llm_proxy_http")
    async with running_edge(tmp_path, forwarded=names) as started:
        yield started


@pytest.fixture
async def narrow_edge(tmp_path: Path) -> AsyncIterator[RunningEdge]:
    """The same with room for 40 requests of one address at once, so that a flood need not be one."""
    less = {"max_tokens: 4000, tokens_per_fill: 2000": "max_tokens: 40, tokens_per_fill: 1"}
    async with running_edge(tmp_path, changes=less) as started:
        yield started


def self_signed(directory: Path) -> Tls:
    """Make a certificate for localhost."""
    tls = Tls(directory / "server.pem", directory / "server.key")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "1", "-nodes"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    files = ["-keyout", str(tls.key), "-out", str(tls.certificate)]
    subprocess.run(["openssl", "req", "-x509", *curve, *subject, *files], check=True, capture_output=True)
    return tls


def grpc_channel(address: str, tls: Tls | None) -> grpc.aio.Channel:
    """Return a channel of its own connection."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    if tls is None:
        return grpc.aio.insecure_channel(address, options=options)
    credentials = grpc.ssl_channel_credentials(tls.certificate.read_bytes())
    return grpc.aio.secure_channel(address, credentials, options=options)


@asynccontextmanager
async def running_edge(
    tmp_path: Path,
    tls: Tls | None = None,
    changes: Mapping[str, str] | None = None,
    forwarded: Sequence[str] = (),
) -> AsyncIterator[RunningEdge]:
    """Run an edge before scripted services; `changes` are made in its configuration.

    The services named by `forwarded` are reached through forwarders, which can be frozen.
    """
    async with peers(tmp_path) as behind, AsyncExitStack() as stack:
        between = {
            name: await stack.enter_async_context(forwarding(getattr(behind, name))) for name in forwarded
        }

        def address(name: str) -> str:
            return between[name].address if name in between else getattr(behind, name)

        port, metrics = free_port(), free_port()
        configured = Edge(
            listen=f"127.0.0.1:{port}",
            router=address("router"),
            session=address("session"),
            llm_proxy=address("llm_proxy"),
            llm_proxy_http=address("llm_proxy_http"),
            descriptors=DEPLOY / "pointsman.binpb",
            static_files=DEPLOY / "www",
            cors_origins=[ORIGIN],
            tls=tls,
            hosts=allowed_hosts("127.0.0.1", ["agents.example.com", "*.sites.example"]),
            metrics=f"127.0.0.1:{metrics}",
        )
        base = f"{'https' if tls else 'http'}://localhost:{port}"
        trusted = ssl.create_default_context(cafile=tls.certificate) if tls else False
        async with (
            envoy(configured, tmp_path, changes or {}) as log,
            httpx.AsyncClient(base_url=base, verify=trusted, trust_env=False, timeout=60) as http,
            grpc_channel(f"localhost:{port}", tls) as channel,
        ):

            async def ready() -> bool:
                try:
                    return (await http.get("/healthz")).status_code == 200
                except httpx.TransportError:
                    return False

            await wait_until(ready, timeout=60)
            yield RunningEdge(port, behind, http, channel, log, metrics, between)
