"""Two tenants' agents attack their relays at random while other tenants work: nobody else notices anything.

The whole suite with the demo model. Twenty seconds by default; `make chaos` runs ten minutes, with ten
tenants at work.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.suite import ROOT, Suite

FULL = os.environ.get("CHAOS_FULL") == "1"
SECONDS = 600.0 if FULL else 20.0
# Of one turn of an attacker: a tool call may last two minutes.
TURN_SECONDS = 60.0 if FULL else 18.0
TENANTS = 10 if FULL else 3
ATTACKERS = 2
SEED = int(os.environ.get("FUZZ_SEED", "1"))
PROGRAM = ROOT / "tests" / "support" / "relay_fuzzer.py"
CANARY = re.compile(r"canary-[0-9a-f]{16}")
TOKEN = re.compile(rb"pst_[A-Za-z0-9_-]{32,}")

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1200 if FULL else 300)]


class Tenant:
    """A tenant with a session, and all that it was told."""

    def __init__(self, http: httpx.AsyncClient, key: str) -> None:
        self._http = http
        self._headers = {"authorization": f"Bearer {key}"}
        self.canary = f"canary-{secrets.token_hex(8)}"
        self.session = ""
        self.told: list[str] = []
        self.outcomes: list[str] = []
        self.seconds: list[float] = []

    @classmethod
    async def made(cls, suite: Suite, http: httpx.AsyncClient, name: str) -> Tenant:
        """Make a tenant's key and session."""
        owner = {"authorization": f"Bearer {suite.key}"}
        key = {"title": "fuzz", "role": "KEY_ROLE_MEMBER", "tenant": name}
        answer = await http.post("/v1/keys", headers=owner, json={"key": key})
        tenant = cls(http, answer.raise_for_status().json()["secret"])
        created = await http.post("/v1/sessions", headers=tenant._headers, json={"session": {}})
        tenant.session = created.raise_for_status().json()["session"]["name"]
        return tenant

    async def write(self, path: str, data: bytes) -> None:
        """Put a file into the workspace."""
        url = f"/v1/{self.session}/files/{path}"
        answer = await self._http.put(
            url, headers=self._headers, json={"data": base64.b64encode(data).decode()}
        )
        answer.raise_for_status()

    async def turn(self, prompt: str) -> list[dict[str, Any]]:
        """Run a turn; return its events."""
        began, events = time.monotonic(), []
        body = {
            "session": self.session,
            "prompt": prompt,
            "model": "demo/offline",
            "route": "TURN_ROUTE_AGENT",
        }
        async with self._http.stream("POST", "/v1/turns:run", headers=self._headers, json=body) as answer:
            async for line in answer.aiter_lines():
                if line.strip():
                    self.told.append(line)
                    events.append(json.loads(line).get("event", {}))
        self.seconds.append(time.monotonic() - began)
        self.outcomes.append(str(events[-1].get("turnFinished", {}).get("outcome", events[-1:])))
        return events

    async def stored(self) -> str:
        """Return everything that the installation keeps of the session."""
        url = f"/v1/{self.session}/events"
        answer = await self._http.get(url, headers=self._headers, params={"pageSize": 1000})
        return answer.raise_for_status().text

    async def work(self, over: asyncio.Event) -> None:
        """Run turns until it is over."""
        while not over.is_set():
            await self.turn(f"Run `echo {self.canary}`")
            await self.turn(f"What is 12*12? {self.canary}")

    async def attack(self, number: int) -> list[dict[str, Any]]:
        """Attack the relay in one turn after another; return what each found."""
        await self.write("fuzz.py", await asyncio.to_thread(PROGRAM.read_bytes))
        found, until = list[dict[str, Any]](), time.monotonic() + SECONDS
        for turn in range(1000):
            left = until - time.monotonic()
            if left <= 0:
                break
            seed = SEED * 1_000_000 + number * 1_000 + turn
            seconds = min(TURN_SECONDS, max(left, 1))
            events = await self.turn(f"Run `python3 -I fuzz.py {seed} {seconds:.0f} {self.canary}`")
            results = [event["toolResult"]["content"] for event in events if "toolResult" in event]
            found.append(json.loads(results[0].strip().splitlines()[-1]))
        return found


def p95(seconds: list[float]) -> float:
    return sorted(seconds)[int(len(seconds) * 0.95)]


async def test_nobody_else_notices_agents_that_fuzz_their_relays(make_suite: Callable[..., Suite]) -> None:
    suite = await asyncio.to_thread(make_suite)
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(base_url=suite.url, trust_env=False, timeout=120, limits=limits) as http:
        workers = [await Tenant.made(suite, http, f"worker-{number}") for number in range(TENANTS)]
        attackers = [await Tenant.made(suite, http, f"attacker-{number}") for number in range(ATTACKERS)]
        pids = {service: suite.pid(service) for service in ("router", "session", "runner", "llm-proxy")}
        over = asyncio.Event()
        working = [asyncio.create_task(worker.work(over)) for worker in workers]
        try:
            found = await asyncio.gather(*(one.attack(number) for number, one in enumerate(attackers)))
        finally:
            over.set()
        await asyncio.gather(*working)
        stored = {tenant: await tenant.stored() for tenant in (*workers, *attackers)}

    reports = [report for of_one in found for report in of_one]
    statuses = sum((Counter(report["statuses"]) for report in reports), Counter[str]())
    seconds = [second for worker in workers for second in worker.seconds]
    print(f"seed {SEED}: {sum(report['sent'] for report in reports)} requests, answers {dict(statuses)}")
    print(f"{len(seconds)} turns of others, p95 {p95(seconds):.2f} s")
    # An attack that sends nothing, or gets past nothing, shows nothing.
    assert sum(report["sent"] for report in reports) >= SECONDS * 5
    assert {"200", "400", "415"} <= set(statuses)
    assert [finding for report in reports for finding in report["findings"]] == []
    assert set(statuses) & {"500", "502"} == set()
    for worker in workers:
        assert set(worker.outcomes) == {"TURN_STATE_SUCCEEDED"}, worker.outcomes
    for tenant in (*workers, *attackers):
        seen = set(CANARY.findall("\n".join(tenant.told) + stored[tenant]))
        assert seen == {tenant.canary}
    assert {service: suite.pid(service) for service in pids} == pids
    assert await asyncio.to_thread(tokens_in, suite.data_dir) == []
    assert await asyncio.to_thread(canaries_in, suite.data_dir / "logs") == []


def tokens_in(folder: Path) -> list[str]:
    """Return the files that hold a session token."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and TOKEN.search(path.read_bytes())]


def canaries_in(folder: Path) -> list[str]:
    """Return the files that hold a canary: nothing of what agents and tenants say belongs into a log."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and CANARY.search(path.read_text())]
