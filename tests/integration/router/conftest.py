"""The real router behind the real edge, before a session service that plays a script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import pytest
from router.app import app
from servicekit.testing import Keys, free_port, started, test_keys, wait_until
from supervisor.edge import Edge, envoy_binary, envoy_command, render
from support.router_house import API_KEY, House, configuration
from support.router_peers import SessionPeer, session_service

DEPLOY = Path(__file__).resolve().parents[3] / "deploy" / "envoy"


@dataclass
class Front:
    """The edge's two kinds of clients, and the house behind it."""

    house: House
    http: httpx.AsyncClient
    channel: grpc.aio.Channel
    url: str
    key: dict[str, str]


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return test_keys(tmp_path)


@pytest.fixture
def open_front(keys: Keys, tmp_path: Path) -> Callable[..., Any]:
    """`async with open_front(peer) as front`; keyword arguments are the router's configuration."""

    @asynccontextmanager
    async def front(peer: SessionPeer | None = None, **fields: Any) -> AsyncIterator[Front]:
        script = peer or SessionPeer()
        async with session_service(script, keys) as session:
            config = configuration(keys, tmp_path / "data", session.address, **fields)
            async with (
                started(app, config) as running,
                _edge(running.server.address, session.address, tmp_path) as url,
                httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as http,
                grpc.aio.insecure_channel(url.removeprefix("http://")) as channel,
            ):
                key = {"authorization": f"Bearer {API_KEY}"}
                yield Front(House(keys, script, running), http, channel, url, key)

    return front


@asynccontextmanager
async def _edge(router: str, session: str, directory: Path) -> AsyncIterator[str]:
    binary = envoy_binary()
    assert binary is not None
    nobody = f"127.0.0.1:{free_port()}"
    edge = Edge(
        listen=f"127.0.0.1:{free_port()}",
        router=router,
        session=session,
        llm_proxy=nobody,
        llm_proxy_http=nobody,
        admin_port=free_port(),
        descriptors=DEPLOY / "pointsman.binpb",
        static_files=DEPLOY / "www",
    )
    file = directory / "envoy.yaml"
    file.write_text(render((DEPLOY / "envoy.yaml").read_text(), edge))
    command = [*envoy_command(binary, file), "--concurrency", "1"]
    with (directory / "envoy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
        try:
            async with httpx.AsyncClient(base_url=f"http://{edge.listen}", trust_env=False) as http:

                async def ready() -> bool:
                    with suppress(httpx.HTTPError):
                        return (await http.get("/healthz", timeout=2)).status_code == 200
                    return False

                await wait_until(ready, 20)
            yield f"http://{edge.listen}"
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
