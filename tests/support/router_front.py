"""The real router behind the real edge, before a session service that plays a script: for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
from router.app import app
from servicekit.testing import Keys, free_port, started, wait_until
from supervisor.edge import Edge, envoy_binary, envoy_command, render
from support.router_house import API_KEY, House, configuration
from support.router_peers import SessionPeer, session_service

DEPLOY = Path(__file__).resolve().parents[2] / "deploy" / "envoy"


@dataclass
class Front:
    """The edge's two kinds of clients, and the house behind it."""

    house: House
    http: httpx.AsyncClient
    channel: grpc.aio.Channel
    edge: RestartableEdge
    key: dict[str, str]

    @property
    def url(self) -> str:
        """Where the edge listens."""
        return self.edge.url


@asynccontextmanager
async def front(
    keys: Keys, directory: Path, peer: SessionPeer | None = None, **fields: Any
) -> AsyncIterator[Front]:
    """Run all three; keyword arguments are the router's configuration."""
    script = peer or SessionPeer()
    async with session_service(script, keys) as session:
        config = configuration(keys, directory / "data", session.address, **fields)
        async with started(app, config) as running:
            edge = RestartableEdge(running.server.address, session.address, directory)
            await edge.start()
            try:
                async with (
                    httpx.AsyncClient(base_url=edge.url, trust_env=False, timeout=60) as http,
                    grpc.aio.insecure_channel(edge.url.removeprefix("http://")) as channel,
                ):
                    key = {"authorization": f"Bearer {API_KEY}"}
                    yield Front(House(keys, script, running), http, channel, edge, key)
            finally:
                await edge.kill()


class RestartableEdge:
    """A real Envoy with the real configuration, on a port that it keeps."""

    def __init__(self, router: str, session: str, directory: Path) -> None:
        nobody = f"127.0.0.1:{free_port()}"
        listen = f"127.0.0.1:{free_port()}"
        edge = Edge(
            listen=listen,
            router=router,
            session=session,
            llm_proxy=nobody,
            llm_proxy_http=nobody,
            descriptors=DEPLOY / "pointsman.binpb",
            static_files=DEPLOY / "www",
        )
        binary = envoy_binary()
        assert binary is not None
        file = directory / "envoy.yaml"
        file.write_text(render((DEPLOY / "envoy.yaml").read_text(), edge))
        self.url = f"http://{listen}"
        self._command = [*envoy_command(binary, file), "--concurrency", "1"]
        self._log = directory / "envoy.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdout=log, stderr=log, cwd=self._log.parent
            )
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as http:

            async def ready() -> bool:
                with suppress(httpx.HTTPError, ValueError):
                    # What is behind the router is not there, and it says so.
                    return "services" in (await http.get("/healthz", timeout=2)).json()
                return False

            await wait_until(ready, 60)

    async def kill(self) -> None:
        """Kill it without a word, as often as one likes."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
