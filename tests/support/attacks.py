"""What a hostile tenant does to an installation: programs for its sandbox, and calls from outside.

Every attack carries a canary, which must show nowhere in another tenant's responses, files or log lines.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx
from support.hostile_programs import (
    DISK_HOLDER,
    FORK_BOMB,
    INODE_FLOOD,
    MEMORY_BOMB,
    RELAY_BOMB,
    RELAY_DESYNC,
    SPARSE,
    STAYS_AWAKE,
)
from support.suite import Suite, descendants
from support.suite_tenant import Tenant

MIB = 1 << 20


@dataclass(frozen=True)
class Attack:
    """`program` runs in the attacker's sandbox; `calls` are made from outside, over and over."""

    name: str
    program: str = ""
    calls: Callable[[Tenant, str], Awaitable[None]] | None = None


@cache
def _bomb(mebibytes: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(b" " * MIB) for _ in range(mebibytes)) + packer.flush()


async def _llm_bomb(tenant: Tenant, session: str) -> None:
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    body = await asyncio.to_thread(_bomb, 2000)
    answer = await tenant.http.post("/llm/v1/messages", content=body, headers=headers)
    assert 400 <= answer.status_code < 500, answer.text


async def _list_flood(tenant: Tenant, session: str) -> None:
    pages = [tenant.http.get(f"/v1/{session}/files?pageSize=1&path=d") for _ in range(24)]
    for answer in await asyncio.gather(*pages):
        assert answer.status_code < 500, (answer.status_code, answer.headers, answer.text)


async def _snapshots(tenant: Tenant, session: str) -> None:
    answer = await tenant.http.post(f"/v1/{session}/snapshots", json={})
    assert answer.status_code < 500, (answer.status_code, answer.headers, answer.text)


async def _tool_lists(tenant: Tenant, session: str) -> None:
    for item in ("Read,Bash", "Read Bash", "Read\tBash", "Bash("):
        answer = await tenant.http.post(
            "/v1/turns:run",
            json={
                "session": session,
                "prompt": "Run `id`",
                "route": "TURN_ROUTE_AGENT",
                "options": {"allowedTools": [item]},
            },
        )
        # Refused, or asked about: never run.
        assert "uid=" not in answer.text, (item, answer.text[:300])


async def _admin_probes(tenant: Tenant, session: str) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=5) as http:
        for port in await asyncio.to_thread(_listening, tenant.suite) - {tenant.suite.port}:
            try:
                answer = await http.post(f"http://127.0.0.1:{port}/logging?level=trace")
            except httpx.HTTPError:
                continue
            assert "active loggers" not in answer.text, port


def _listening(suite: Suite) -> set[int]:
    """Return the ports of loopback that the suite's processes listen on."""
    own = set[str]()
    for pid in descendants(suite.process.pid):
        with suppress(OSError):
            own |= {str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    places = [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in own]
    return {int(place.split(":")[1], 16) for place in places if place.startswith("0100007F")}


ATTACKS = (
    Attack("gzip desync on the relay", RELAY_DESYNC),
    Attack("gzip bombs on the relay", RELAY_BOMB),
    Attack("gzip bomb on /llm", calls=_llm_bomb),
    Attack("inode and list flood", INODE_FLOOD, _list_flood),
    Attack("unlinked files", DISK_HOLDER),
    Attack("sparse snapshots", SPARSE, _snapshots),
    Attack("paused sandboxes that want to run", STAYS_AWAKE),
    Attack("fork bomb", FORK_BOMB),
    Attack("memory bomb", MEMORY_BOMB),
    Attack("tool lists", calls=_tool_lists),
    Attack("administration ports", calls=_admin_probes),
)
SHORT = ("gzip desync on the relay", "gzip bomb on /llm", "fork bomb", "administration ports")
