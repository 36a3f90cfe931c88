"""While one tenant attacks, another one's work goes on, and nothing of the attacker's shows in it.

The short form looks at outcomes and canaries. The full form (CHAOS_FULL=1) also compares the other tenant's
latencies with those of a run without an attack.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import uuid
from collections.abc import Callable
from contextlib import suppress

import httpx
import pytest
from support.attacks import ATTACKS, SHORT, Attack
from support.suite import Suite
from support.suite_tenant import Tenant

FULL = os.environ.get("CHAOS_FULL") == "1"
ROUNDS = 50 if FULL else 2
MOST = 2.0
# Below this a ratio says more about the clock than about the attack.
FLOOR_SECONDS = 0.05
KINDS = ("turn", "call", "list")

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1800 if FULL else 600)]


async def work(suite: Suite, name: str) -> Tenant:
    """Let a tenant work: turns, calls, lists, one after another. All of them have to succeed."""
    victim = Tenant(suite, name)
    await victim.open()
    session = await victim.session()
    await victim.put(session, "mine", "mine\n")
    # The first turn boots an agent.
    await victim.turn(session, "What is 2*17?")
    victim.took.clear()
    for number in range(ROUNDS):
        finished = await victim.turn(session, f"What is {number}*17?")
        assert finished.get("outcome") == "TURN_STATE_SUCCEEDED", finished
        await victim.look("call", f"/v1/{session}")
        await victim.look("list", f"/v1/{session}/files")
    await victim.look("events", f"/v1/{session}/events?pageSize=1000")
    await victim.look("file", f"/v1/{session}/files/mine")
    await victim.http.aclose()
    return victim


async def attacking(attacker: Tenant, attack: Attack, canary: str, begun: asyncio.Event) -> None:
    """Attack until cancelled: the program once in its sandbox, the calls over and over."""
    session = await attacker.session()
    if attack.program:
        await attacker.put(session, "attack.py", attack.program.replace("CANARY", canary))
        # It may end its own turn in any way.
        await attacker.turn(session, "Run `python3 -I attack.py`")
    begun.set()
    while attack.calls is not None:
        await attack.calls(attacker, session)
    await asyncio.Event().wait()


async def work_under(suite: Suite, attack: Attack) -> Tenant:
    """Return the tenant that has worked beside an attack; AssertionError when the attack has a hold."""
    canary = f"canary{uuid.uuid4().hex}"
    attacker, begun = Tenant(suite, f"attacker-{uuid.uuid4().hex[:8]}"), asyncio.Event()
    await attacker.open()
    task = asyncio.create_task(attacking(attacker, attack, canary, begun))
    try:
        waiting = asyncio.create_task(begun.wait())
        await asyncio.wait({waiting, task}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        victim = await work(suite, f"victim-{uuid.uuid4().hex[:8]}")
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, httpx.HTTPError):
            await task
        await attacker.http.aclose()
    assert canary not in "".join(victim.said)
    for log in (suite.data_dir / "logs").glob("*.log"):
        lines = log.read_text(errors="replace").splitlines()
        assert not [line for line in lines if victim.name in line and canary in line], log
    return victim


def p95(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=20)[-1]


async def test_another_tenant_works_on_beside_every_attack(make_suite: Callable[..., Suite]) -> None:
    suite = await asyncio.to_thread(make_suite, POINTSMAN_PAUSE_AFTER="1s")
    control = await work(suite, "control")
    slower = []
    for attack in ATTACKS:
        if not FULL and attack.name not in SHORT:
            continue
        victim = await work_under(suite, attack)
        for kind in KINDS:
            before, during = p95(control.took[kind]), p95(victim.took[kind])
            print(f"{attack.name}: {kind} {before:.3f} s, {during:.3f} s, {during / before:.1f}")
            if during > MOST * max(before, FLOOR_SECONDS):
                slower.append((attack.name, kind, before, during))
    assert not FULL or slower == []
