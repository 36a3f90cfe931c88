"""R_edge: a unary call through Envoy beside the same call straight to the service, in one run.

    python bench/edge.py [--calls 400] [--json out.json]

The services are the edge tests' own small ones. The ratio is of a call to an open door; beside it, without a
gate, one that the router is asked about first. Arms take turns in random order. Exits with 1 past the gate.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop
from pointsman.llm.v1 import model_service_pb2, model_service_pb2_grpc
from pointsman.system.v1 import system_service_pb2, system_service_pb2_grpc
from servicekit import logs
from servicekit.channels import service_channel
from servicekit.testing import free_port, passport_metadata
from supervisor.edge import Edge, envoy_binary, envoy_command, render
from supervisor.health import healthy

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.edge_peers import KEY, Peers, peers

ROOT = Path(__file__).resolve().parents[1]
GATE = 2.0
Call = Callable[[], Awaitable[Any]]


async def measure(arms: dict[str, Call], calls: int) -> dict[str, list[float]]:
    """Return each arm's times in seconds."""
    times: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(calls):
        for name in random.sample(list(arms), len(arms)):
            began = time.perf_counter()
            await arms[name]()
            times[name].append(time.perf_counter() - began)
    return times


async def bench(calls: int) -> dict[str, list[float]]:
    """Start everything, warm up, measure."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        async with peers(directory) as behind:
            edge = _edge(behind)
            configuration = directory / "envoy.yaml"
            configuration.write_text(render((ROOT / "deploy/envoy/envoy.yaml").read_text(), edge))
            binary = envoy_binary()
            assert binary is not None
            with (directory / "envoy.log").open("wb") as log:
                command = envoy_command(binary, configuration)
                process = await asyncio.create_subprocess_exec(
                    *command, stdout=log, stderr=log, cwd=directory
                )
            try:
                await asyncio.wait_for(healthy(edge.listen), 30)
                return await _measured(edge, behind, calls)
            finally:
                process.terminate()
                await process.wait()


def _edge(behind: Peers) -> Edge:
    return Edge(
        listen=f"127.0.0.1:{free_port()}",
        router=behind.router,
        session=behind.session,
        llm_proxy=behind.llm_proxy,
        llm_proxy_http=behind.llm_proxy_http,
        descriptors=ROOT / "deploy/envoy/pointsman.binpb",
        static_files=ROOT / "deploy/envoy/www",
    )


async def _measured(edge: Edge, behind: Peers, calls: int) -> dict[str, list[float]]:
    async with (
        service_channel(behind.router, signer=None) as router,
        service_channel(behind.llm_proxy, signer=None) as llm_proxy,
        service_channel(edge.listen, signer=None) as front,
    ):
        health, models = system_service_pb2.GetHealthRequest(), model_service_pb2.ListModelsRequest()
        passport = passport_metadata(behind.keys.signer("router"))
        straight = system_service_pb2_grpc.SystemServiceStub(router)
        through = system_service_pb2_grpc.SystemServiceStub(front)
        straight_models = model_service_pb2_grpc.ModelServiceStub(llm_proxy)
        through_models = model_service_pb2_grpc.ModelServiceStub(front)
        key = [("authorization", f"Bearer {KEY}")]
        arms: dict[str, Call] = {
            "straight": lambda: straight.GetHealth(health, timeout=5),
            "through Envoy": lambda: through.GetHealth(health, timeout=5),
            "straight, with passport": lambda: straight_models.ListModels(
                models, metadata=passport, timeout=5
            ),
            "through Envoy, with key": lambda: through_models.ListModels(models, metadata=key, timeout=5),
        }
        await measure(arms, calls // 4)
        return await measure(arms, calls)


def main() -> int:
    """Print the table; 1 past the gate."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    logs.configure("bench", "error")
    times = uvloop.run(bench(arguments.calls))
    middle = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        low, _, high = statistics.quantiles(values, n=4)
        print(f"{name:>26} {middle[name] * 1000:7.2f} ms ±{(high - low) * 1000:.2f}")
    ratio = middle["through Envoy"] / middle["straight"]
    with_key = middle["through Envoy, with key"] / middle["straight, with passport"]
    print(f"{'R_edge':>26} {ratio:7.2f}    gate {GATE:g}; with the router asked first {with_key:.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"R_edge": ratio, "with key": with_key}, indent=2))
    return 1 if ratio > GATE else 0


if __name__ == "__main__":
    sys.exit(main())
