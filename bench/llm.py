"""R_llm: a call through llm-proxy beside the same call straight to the provider, in one run.

    python bench/llm.py [--calls 200] [--json out.json]

The provider is a stub process (aiohttp, as ours) that reads its request and streams 20 tokens without a
pause, in Anthropic's shape. Both arms take turns in
random order. Prints medians with quartiles and the ratio of medians; exits 1 past the gate. No test:
what it prints depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp
import uvloop
from aiohttp import web
from pointsman.llm.v1 import llm_service_pb2 as pb
from pointsman.llm.v1 import llm_service_pb2_grpc as rpc
from servicekit.channels import service_channel
from servicekit.testing import Keys, free_port, passport_metadata, test_keys

GATE = 4.0
BODIES = {"small": 200, "59 KB": 59 * 1024}
CONCURRENCY = (1, 32)

_HEADERS = {"content-type": "application/json", "anthropic-version": "2023-06-01"}


def _events() -> list[bytes]:
    def event(kind: str, **data: object) -> bytes:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()

    message = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
    }
    delta = {"type": "text_delta", "text": "word "}
    return [
        event("message_start", message={**message, "usage": {"input_tokens": 1000, "output_tokens": 1}}),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        *(event("content_block_delta", index=0, delta=delta) for _ in range(20)),
        event("content_block_stop", index=0),
        event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 20}),
        event("message_stop"),
    ]


async def _serve_stub(port: int) -> None:
    """Be a model that reads its request and writes an answer token by token, without a pause."""
    events = _events()

    async def answer(request: web.Request) -> web.StreamResponse:
        await request.json()
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for piece in events:
            await response.write(piece)
        await response.write_eof()
        return response

    application = web.Application(client_max_size=2**26)
    application.router.add_post("/v1/messages", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


@dataclass(frozen=True)
class Arm:
    """Where calls go, and with which credential."""

    name: str
    url: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Row:
    """One line of the table; times in milliseconds."""

    body: str
    concurrency: int
    bare_ms: float
    bare_iqr_ms: float
    proxy_ms: float
    proxy_iqr_ms: float
    ratio: float


async def _call(session: aiohttp.ClientSession, arm: Arm, body: bytes) -> float:
    started = time.perf_counter()
    async with session.post(f"{arm.url}/v1/messages?beta=true", data=body, headers=arm.headers) as response:
        raw = await response.read()
        if response.status != 200 or b"message_stop" not in raw:
            raise RuntimeError(f"{arm.name}: {response.status} {raw[:200]!r}")
    return (time.perf_counter() - started) * 1000


async def _measure(
    session: aiohttp.ClientSession, arms: list[Arm], size: int, concurrency: int, calls: int
) -> dict[str, list[float]]:
    body = _body(size)
    times: dict[str, list[float]] = {arm.name: [] for arm in arms}
    for _ in range(max(1, calls // concurrency)):
        for arm in random.sample(arms, len(arms)):
            times[arm.name] += await asyncio.gather(*(_call(session, arm, body) for _ in range(concurrency)))
    return times


def _body(size: int) -> bytes:
    text = "All work and no play makes a dull boy. " * (size // 39 + 1)
    request = {
        "model": "anthropic/claude-sonnet-4-5",
        "max_tokens": 1000,
        "stream": True,
        "messages": [{"role": "user", "content": text[:size]}],
    }
    return json.dumps(request).encode()


def _row(name: str, concurrency: int, times: dict[str, list[float]]) -> Row:
    def spread(values: list[float]) -> float:
        low, _, high = statistics.quantiles(values, n=4)
        return round(high - low, 3)

    bare, proxy = statistics.median(times["bare"]), statistics.median(times["proxy"])
    return Row(
        name, concurrency, round(bare, 3), spread(times["bare"]), round(proxy, 3), spread(times["proxy"]),
        round(proxy / bare, 2),
    )  # fmt: skip


def _start_stub(port: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, __file__, "--stub", str(port)])


def _start_proxy(
    directory: Path, keys: Keys, stub: int, grpc_port: int, http_port: int
) -> subprocess.Popen[bytes]:
    environ = {
        **os.environ,
        "POINTSMAN_PASSPORT_KEYS": str(keys.jwks),
        "POINTSMAN_PASSPORT_KEY": str(keys.directory),
        "POINTSMAN_DATA_DIR": str(directory / "data"),
        "POINTSMAN_LLM_PROXY_ADDRESS": f"127.0.0.1:{grpc_port}",
        "POINTSMAN_LLM_PROXY_HTTP_ADDRESS": f"127.0.0.1:{http_port}",
        "ANTHROPIC_API_KEY": "sk-ant-bench",
        "ANTHROPIC_API_BASE": f"http://127.0.0.1:{stub}",
        "DATABASE_URL": "",
    }
    log = (directory / "proxy.log").open("wb")
    return subprocess.Popen([sys.executable, "-m", "llm_proxy"], env=environ, stderr=log)


async def _token(keys: Keys, address: str) -> str:
    metadata = passport_metadata(keys.signer("session"), scopes={"internal"})
    scope = pb.BillingScope(account="bench", session="sessions/bench", turn="sessions/bench/turns/1")
    async with service_channel(address, signer=None) as channel:
        response = await rpc.LlmServiceStub(channel).IssueSessionToken(
            pb.IssueSessionTokenRequest(scope=scope), metadata=metadata, timeout=30, wait_for_ready=True
        )
    return str(response.token)


def _memory_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def bench(calls: int) -> tuple[list[Row], dict[str, float]]:
    """Run everything; returns the table, and start-up time, memory and CPU of llm-proxy."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        keys = test_keys(directory)
        stub_port, grpc_port, http_port = free_port(), free_port(), free_port()
        stub = _start_stub(stub_port)
        started = time.perf_counter()
        proxy = _start_proxy(directory, keys, stub_port, grpc_port, http_port)
        try:
            token = await _token(keys, f"127.0.0.1:{grpc_port}")
            facts = {"start_seconds": round(time.perf_counter() - started, 2)}
            # LiteLLM is imported beside the start; until then the processor is not ours alone.
            await asyncio.sleep(10)
            arms = [
                Arm("bare", f"http://127.0.0.1:{stub_port}", _HEADERS),
                Arm(
                    "proxy", f"http://127.0.0.1:{http_port}", {**_HEADERS, "authorization": f"Bearer {token}"}
                ),
            ]
            rows = []
            cpu, made = _cpu_seconds(proxy.pid), 0
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
                for body, size in BODIES.items():
                    for concurrency in CONCURRENCY:
                        await _measure(session, arms, size, concurrency, calls // 4)
                        times = await _measure(session, arms, size, concurrency, calls)
                        made += len(times["proxy"]) + max(1, calls // 4 // concurrency) * concurrency
                        rows.append(_row(body, concurrency, times))
            facts["cpu_ms_per_call"] = round((_cpu_seconds(proxy.pid) - cpu) * 1000 / made, 2)
            facts["memory_mb"] = _memory_mb(proxy.pid)
        finally:
            for process in (proxy, stub):
                process.send_signal(signal.SIGTERM)
                process.wait(15)
    return rows, facts


def main() -> int:
    """Print the table; 1 past the gate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--stub", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stub:
        uvloop.run(_serve_stub(arguments.stub))
        return 0
    rows, facts = uvloop.run(bench(arguments.calls))
    print(f"{'body':>8} {'at once':>8} {'bare ms':>16} {'through ms':>16} {'R_llm':>7}   gate {GATE:g}")
    for row in rows:
        bare, through = f"{row.bare_ms} ±{row.bare_iqr_ms}", f"{row.proxy_ms} ±{row.proxy_iqr_ms}"
        print(f"{row.body:>8} {row.concurrency:>8} {bare:>16} {through:>16} {row.ratio:>7}")
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps({"R_llm": [asdict(row) for row in rows], **facts}, indent=2))
    return 1 if any(row.ratio > GATE for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
