"""A service's process, from its configuration to its exit code."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from servicekit.starting import GRPC_VARIABLES
from servicekit.testing import free_port

PROGRAM = """
from servicekit.starting import quick_imports

with quick_imports():
    from contextlib import asynccontextmanager
    from pydantic import Field
    from servicekit.config import ServiceConfig
    from servicekit.passport import PassportVerifier
    from servicekit.serving import run_service, serving

class DemoConfig(ServiceConfig):
    address: str = Field(default="127.0.0.1:0", validation_alias="POINTSMAN_DEMO_ADDRESS")

@asynccontextmanager
async def app(config, drain):
    verifier = PassportVerifier.from_file(config.passport_keys)
    async with serving(
        service="demo", address=config.address, servicers=[], verifier=verifier, drain=drain
    ) as server:
        yield server

run_service("demo", DemoConfig, app)
"""


async def start(**environ: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, env=environ, stderr=asyncio.subprocess.PIPE
    )


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str]:
    async with asyncio.timeout(60):
        _, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, errors.decode()


def environ_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/environ").read_text().split("\0")


def environ(kit: Any, **more: str) -> dict[str, str]:
    keys = {
        "POINTSMAN_PASSPORT_KEYS": str(kit.keys.jwks),
        "POINTSMAN_PASSPORT_KEY": str(kit.keys.directory),
    }
    return {**keys, **more}


async def test_a_service_serves_until_sigterm_and_exits_with_0(kit: Any) -> None:
    address = f"127.0.0.1:{free_port()}"
    process = await start(**environ(kit, POINTSMAN_DEMO_ADDRESS=address))
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=60, wait_for_ready=True)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            assert {f"{name}={value}" for name, value in GRPC_VARIABLES.items()} <= set(
                environ_of(process.pid)
            )
            process.send_signal(signal.SIGTERM)
            code, errors = await ended(process)
    finally:
        if process.returncode is None:
            process.kill()
    assert code == 0
    events = [json.loads(line)["event"] for line in errors.splitlines()]
    assert events == ["serving", "draining", "stopped"]


async def test_a_bad_configuration_is_one_line_and_exit_2(kit: Any) -> None:
    code, errors = await ended(await start(**environ(kit, POINTSMAN_LOG_LEVEL="loud")))
    assert code == 2
    (line,) = errors.splitlines()
    assert line.startswith("POINTSMAN_LOG_LEVEL: ")


async def test_an_address_that_is_taken_is_one_line_of_ours_and_exit_2(kit: Any, tmp_path: Path) -> None:
    blocker = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    async with blocker:
        host, port = blocker.sockets[0].getsockname()
        for variable in ("POINTSMAN_DEMO_ADDRESS", "POINTSMAN_METRICS_ADDRESS"):
            code, errors = await ended(await start(**environ(kit, **{variable: f"{host}:{port}"})))
            assert code == 2
            assert f"cannot listen on {host}:{port}" in errors.splitlines()[-1]
            assert "Traceback" not in errors
