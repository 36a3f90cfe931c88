"""Session replicas and scripted peers as real processes, to be killed, frozen and brought back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from servicekit.channels import service_channel
from servicekit.testing import Keys, free_port, test_keys
from support.session_house import Client

_TESTS = Path(__file__).resolve().parents[1]


class Program:
    """One process that is started again after it dies."""

    def __init__(
        self, arguments: list[str], environ: dict[str, str], log: Path, addresses: list[str]
    ) -> None:
        self._arguments = arguments
        self._environ = environ
        self._log = log
        self.addresses = addresses
        self.process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        self._output = self._log.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", *self._arguments],
            env=self._environ,
            stdout=self._output,
            stderr=self._output,
        )

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    async def wait(self) -> int:
        """Wait for its end and return its exit code."""
        assert self.process is not None
        assert self._output is not None
        code = await asyncio.to_thread(self.process.wait, 30)
        self._output.close()
        return code

    async def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGKILL)
            # One that was frozen dies only when it goes on.
            self.signal(signal.SIGCONT)
        await self.wait()

    async def restart(self) -> None:
        """Kill it and start it again."""
        await self.kill()
        self.start()

    async def serves(self) -> None:
        """Return as soon as all of its servers are healthy."""
        for address in self.addresses:
            async with service_channel(address, signer=None) as channel, asyncio.timeout(90):
                await _healthy(channel)


async def _healthy(channel: grpc.aio.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    while True:
        with suppress(grpc.aio.AioRpcError):
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
        await asyncio.sleep(0.05)


class Town:
    """Replicas of the session service and their peers."""

    def __init__(self, keys: Keys, peers: Program, replicas: list[Program], journal: Path) -> None:
        self.keys = keys
        self.peers = peers
        self.replicas = replicas
        self._journal = journal
        self._channels = [service_channel(replica.addresses[0], signer=None) for replica in replicas]

    def client(self, replica: int = 0, tenant: str = "acme") -> Client:
        """Return a caller at one replica."""
        return Client(self._channels[replica % len(self.replicas)], self.keys, tenant)

    async def back(self, replica: int) -> None:
        """Return as soon as a replica that was started again is healthy and its callers have found it."""
        await self.replicas[replica].serves()
        # A caller that was refused meanwhile waits a moment before it dials again.
        async with asyncio.timeout(60):
            await self._channels[replica].channel_ready()

    def journal(self) -> list[tuple[float, str, str]]:
        """Return what the runners did, in order."""
        lines = self._journal.read_text().splitlines() if self._journal.exists() else []
        return [(seconds, step, turn) for seconds, step, turn in map(json.loads, lines)]

    async def close(self) -> None:
        """Stop everything."""
        for channel in self._channels:
            await channel.close(None)
        for program in [*self.replicas, self.peers]:
            await program.kill()


@asynccontextmanager
async def town(
    tmp_path: Path, database_url: str = "", *, replicas: int = 1, module: str = "session", **environ: str
) -> AsyncIterator[Town]:
    """Run replicas on one database with scripted peers, all as processes."""
    keys = test_keys(tmp_path)
    journal = tmp_path / "journal"
    runner, models = (f"127.0.0.1:{free_port()}" for _ in range(2))
    base = os.environ | {"PYTHONPATH": str(_TESTS)}
    peer_arguments = ["support.session_peers_process", runner, models, str(keys.directory), str(journal)]
    peers = Program(peer_arguments, base, tmp_path / "peers.log", [runner, models])
    programs = []
    for number in range(replicas):
        address = f"127.0.0.1:{free_port()}"
        settings = {
            "POINTSMAN_SESSION_ADDRESS": address,
            "POINTSMAN_RUNNER_ADDRESS": runner,
            "POINTSMAN_LLM_PROXY_ADDRESS": models,
            "POINTSMAN_PASSPORT_KEYS": str(keys.jwks),
            "POINTSMAN_PASSPORT_KEY": str(keys.directory),
            "POINTSMAN_DATA_DIR": str(tmp_path / "data"),
            "DATABASE_URL": database_url,
            # So that silence means that something is wrong.
            "POINTSMAN_KEEP_ALIVE_SECONDS": "0.5",
            **environ,
        }
        programs.append(Program([module], base | settings, tmp_path / f"session-{number}.log", [address]))
    for program in [peers, *programs]:
        program.start()
    place = Town(keys, peers, programs, journal)
    try:
        for program in [peers, *programs]:
            await program.serves()
        yield place
    finally:
        await place.close()
