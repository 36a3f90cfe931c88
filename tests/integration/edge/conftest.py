"""A real Envoy with the real configuration before scripted services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import httpx
import pytest
from servicekit.testing import free_port, wait_until
from supervisor.edge import Edge, envoy_binary, envoy_command, render
from support.edge_peers import KEY, Peers, peers

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

    @property
    def key(self) -> dict[str, str]:
        """The header that lets one in."""
        return {"authorization": f"Bearer {KEY}"}


@asynccontextmanager
async def envoy(edge: Edge, directory: Path) -> AsyncIterator[Path]:
    """Run Envoy until it is not needed any more; yields its log, that of its accesses included."""
    binary = envoy_binary()
    assert binary is not None
    configuration = directory / "envoy.yaml"
    configuration.write_text(render((DEPLOY / "envoy.yaml").read_text(), edge))
    log = directory / "envoy.log"
    with log.open("wb") as output:
        command = [
            *envoy_command(binary, configuration),
            "--concurrency",
            "1",
            "--file-flush-interval-msec",
            "50",
        ]
        process = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output)
        try:
            yield log
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[RunningEdge]:
    """An edge with all its peers, ready."""
    async with peers(tmp_path) as behind:
        port = free_port()
        configured = Edge(
            listen=f"127.0.0.1:{port}",
            router=behind.router,
            session=behind.session,
            llm_proxy=behind.llm_proxy,
            llm_proxy_http=behind.llm_proxy_http,
            admin_port=free_port(),
            descriptors=DEPLOY / "pointsman.binpb",
            static_files=DEPLOY / "www",
            cors_origins=[ORIGIN],
        )
        base = f"http://127.0.0.1:{port}"
        async with (
            envoy(configured, tmp_path) as log,
            httpx.AsyncClient(base_url=base, trust_env=False, timeout=10) as http,
            grpc.aio.insecure_channel(
                f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]
            ) as channel,
        ):

            async def ready() -> bool:
                try:
                    return (await http.get("/healthz")).status_code == 200
                except httpx.TransportError:
                    return False

            await wait_until(ready, timeout=20)
            yield RunningEdge(port, behind, http, channel, log)
