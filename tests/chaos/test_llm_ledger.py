"""The ledger and the provider agree, call by call, although llm-proxy is killed again and again."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pointsman.llm.v1 import llm_service_pb2 as pb
from pointsman.llm.v1 import llm_service_pb2_grpc as rpc
from servicekit.channels import service_channel
from servicekit.testing import free_port, passport_metadata, test_keys, wait_until
from support.scripted_openai import Answer, anthropic_text, scripted_upstream

# Small by default; CHAOS_FULL=1 is the size that the guarantee is stated for.
FULL = os.environ.get("CHAOS_FULL") == "1"
CALLS = 1000 if FULL else 100
AT_ONCE = 8
KILLS = 4 if FULL else 1
MODEL = "anthropic/claude-sonnet-4-5"
# Far more than is spent: the point is that its balance comes out.
MODELS = """
model_list:
  - model_name: anthropic/*
    litellm_params: {model: anthropic/*, api_base: os.environ/ANTHROPIC_API_BASE}
pointsman_settings: {budgets: [{scope: tenant, limit_usd: 1000}]}
"""
ASK = {"model": MODEL, "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "x"}]}


class Victim:
    """llm-proxy as a process of its own, on ports that stay."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "llm_proxy", env=self.environ, stderr=asyncio.subprocess.DEVNULL
        )

    async def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> None:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.terminate()
            await self.process.wait()


@asynccontextmanager
async def victim(directory: Path, upstream: str) -> AsyncIterator[tuple[Victim, str, str]]:
    """Start one; gives the process, its URL and a session token."""
    keys = test_keys(directory)
    address, http = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    models = directory / "models.yaml"
    models.write_text(MODELS)
    environ = {
        "PATH": os.environ["PATH"],
        "POINTSMAN_PASSPORT_KEYS": str(keys.jwks),
        "POINTSMAN_PASSPORT_KEY": str(keys.directory),
        "POINTSMAN_DATA_DIR": str(directory),
        "POINTSMAN_LLM_PROXY_ADDRESS": address,
        "POINTSMAN_LLM_PROXY_HTTP_ADDRESS": http,
        "POINTSMAN_LLM_CONFIG": str(models),
        "ANTHROPIC_API_KEY": "sk-ant-test",
        "ANTHROPIC_API_BASE": upstream,
    }
    proxy = Victim(environ)
    await proxy.start()
    try:
        async with service_channel(address, signer=None) as channel:
            issued = await rpc.LlmServiceStub(channel).IssueSessionToken(
                pb.IssueSessionTokenRequest(
                    scope=pb.BillingScope(session="sessions/x", turn="sessions/x/turns/y")
                ),
                metadata=passport_metadata(keys.signer("runner"), scopes={"internal"}),
                wait_for_ready=True,
                timeout=60,
            )
        yield proxy, f"http://{http}", issued.token
    finally:
        await proxy.stop()


async def ask(session: aiohttp.ClientSession, url: str, token: str) -> int | None:
    """Make one call; returns the number that the provider gave it, None when no whole answer came."""
    try:
        async with session.post(f"{url}/v1/messages", json=ASK, headers={"x-api-key": token}) as response:
            raw = await response.read()
    except aiohttp.ClientError:
        return None
    if b"message_stop" not in raw:
        return None
    found = re.search(rb'"input_tokens": ?(\d+)', raw)
    return int(found[1]) if found is not None else None


async def until_answered(session: aiohttp.ClientSession, url: str, token: str) -> int:
    """Call until there is a whole answer: while the process is gone, nobody is there to ask."""
    while True:
        number = await ask(session, url, token)
        if number is not None:
            return number
        await asyncio.sleep(0.05)


@dataclass(frozen=True)
class Line:
    """A call as the ledger has it."""

    state: str
    tokens: tuple[int, int]
    cost: int
    reserved: int


def ledger_of(directory: Path) -> tuple[dict[str, Line], tuple[int, int]]:
    """Return every line by its id, and what the tenant's balance has as spent and as set aside."""
    query = "SELECT id, state, input_tokens, output_tokens, cost, reserved FROM llm_calls"
    with sqlite3.connect(directory / "llm-proxy" / "ledger.db") as file:
        lines = {
            call: Line(state, (read, written), cost, reserved)
            for call, state, read, written, cost, reserved in file.execute(query)
        }
        [balance] = file.execute("SELECT spent, reserved FROM llm_balances").fetchall()
    return lines, balance


@pytest.mark.heavy
@pytest.mark.timeout(300)
async def test_the_ledger_is_the_providers_bill_call_by_call_after_many_calls_and_kills(
    tmp_path: Path,
) -> None:
    asked: list[tuple[int, int]] = []

    def numbered(_: Any) -> Answer:
        """Give each call a number of its own, as its count of tokens."""
        asked.append((len(asked) + 1, len(asked) % 7 + 1))
        return anthropic_text("Hi", asked[-1])

    seen: list[int] = []
    async with scripted_upstream(numbered) as provider, victim(tmp_path, provider.url) as (proxy, url, token):

        async def work(session: aiohttp.ClientSession) -> None:
            while len(seen) < CALLS:
                seen.append(await until_answered(session, url, token))

        async def kill() -> None:
            for round_ in range(1, KILLS + 1):
                enough = round_ * CALLS // (KILLS + 2)
                await wait_until(lambda: len(seen) >= enough, timeout=120)  # noqa: B023 - waited for here
                await proxy.kill()
                await proxy.start()

        async with asyncio.timeout(280), aiohttp.ClientSession() as session:
            killer = asyncio.create_task(kill())
            await asyncio.gather(*(work(session) for _ in range(AT_ONCE)))
            await killer
            # The last one is up, and has closed what the one before left open.
            seen.append(await until_answered(session, url, token))
        await proxy.stop()
        # The provider's own bill, by the id that each call brought.
        billed = {
            call.headers["x-client-request-id"]: tokens
            for call, tokens in zip(provider.asked, asked, strict=True)
            if tokens in provider.tokens
        }

    lines, (spent, set_aside) = ledger_of(tmp_path)
    settled = {call: line.tokens for call, line in lines.items() if line.state == "settled"}
    lost = {call for call, line in lines.items() if line.state == "lost"}
    # Each call that the provider was asked for has its line, written before.
    assert {call.headers["x-client-request-id"] for call in provider.asked} <= set(lines)
    # What is settled is what the provider bills for that very call.
    assert settled == {call: tokens for call, tokens in billed.items() if call in settled}
    # Who saw a whole answer has paid for it.
    assert {read for read, _ in settled.values()} >= set(seen)
    # Everything else that the provider bills is in the ledger as lost: those under way at a kill, no others.
    assert set(billed) - set(settled) <= lost
    assert set(lines) == set(settled) | lost
    assert len(lost) <= KILLS * AT_ONCE
    # And the money comes out to the last fraction: as counted, and where nobody counted, as set aside.
    charged = (line.reserved if line.state == "lost" else line.cost for line in lines.values())
    assert (spent, set_aside) == (sum(charged), 0)
