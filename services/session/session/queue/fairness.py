"""Who is served next when the machine is full: tenants in turn, then the accounts of the tenant in turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from session.storage.statements.accounts import Load


def rotation(loads: Sequence[Load], places: int, default_limit: int) -> list[tuple[str, str]]:
    """Return the accounts (tenant, account) that get the free places, first served first.

    A place goes to the tenant that has the fewest turns running, and among those to the one that waited
    longest since it was served; within a tenant likewise by account. An account that is at its limit, or has
    nothing more that waits, gets none. An account may be served several times.
    """
    waiting = {(load.tenant, load.account): load.queued for load in loads}
    running = {(load.tenant, load.account): load.running for load in loads}
    limits = {(load.tenant, load.account): load.limit or default_limit for load in loads}
    served = {(load.tenant, load.account): load.last_claim_time for load in loads}
    of_tenant: Counter[str] = Counter()
    tenant_served: dict[str, int] = {}
    for load in loads:
        of_tenant[load.tenant] += load.running
        tenant_served[load.tenant] = load.tenant_claim_time
    turn = max(tenant_served.values(), default=0)
    chosen: list[tuple[str, str]] = []
    while len(chosen) < places:
        ready = [key for key in waiting if waiting[key] > 0 and running[key] < limits[key]]
        if not ready:
            break
        key = min(
            ready, key=lambda key: (of_tenant[key[0]], tenant_served[key[0]], running[key], served[key], key)
        )
        chosen.append(key)
        turn += 1
        waiting[key] -= 1
        running[key] += 1
        of_tenant[key[0]] += 1
        served[key] = tenant_served[key[0]] = turn
    return chosen
