"""Watches a sandbox while a turn runs in it: what breaks its limits is ended, with a reason."""

from __future__ import annotations

import asyncio
from typing import Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from runner.agent.agent import Agent
from runner.agent.outcome import out_of_memory
from runner.sandboxes.protocol import Limits
from runner.workspace.usage import DiskUse, allowed_by, workspace_full

_LOOK_SECONDS: Final = 0.25
_FIRST_DISK_SECONDS: Final = 0.5
# Between looks at the free space, which cost microseconds; so long can a fast writer go on past the quota.
_FREE_SECONDS: Final = 0.1
# Between measurements when the disk loses nothing: what has more names, or was freed by others, shows then.
_DISK_SECONDS: Final = 1.0
# A measurement may take a tenth of one of our cores, not more.
_DISK_SHARE: Final = 10
# A build that runs into the limit now and then goes on; a fork bomb does so thousands of times a second.
_REFUSED_FORKS: Final = 200


async def watch(agent: Agent, disk_use: DiskUse, limits: Limits) -> None:
    """Look after an agent's sandbox until cancelled, or until it had to be ended."""
    disk = asyncio.create_task(_disk_breach(disk_use, limits), name="disk watch")
    try:
        while not agent.ended.is_set():
            await asyncio.wait({disk}, timeout=_LOOK_SECONDS)
            failure = disk.result() if disk.done() else breach(agent, limits)
            if failure is not None:
                await agent.doom(failure)
                return
    finally:
        disk.cancel()


def breach(agent: Agent, limits: Limits) -> Failure | None:
    """Return which limit the sandbox has broken, None when it has none."""
    if agent.process.out_of_memory():
        return out_of_memory()
    if agent.process.refused_forks() > _REFUSED_FORKS:
        return Failure(
            errors_pb2.ERROR_REASON_SANDBOX_CRASHED,
            f"The agent's commands started more than {limits.pids} processes, so the sandbox was ended. Its "
            "files are kept; the next turn gets a fresh sandbox.",
            limit=str(limits.pids),
        )
    return None


async def disk_breach_at_end(use: DiskUse, limits: Limits) -> Failure | None:
    """Return the failure of a workspace that has become too large since the last look, None when it has not.

    Takes microseconds when the disk has not lost as much as that.
    """
    allowed = allowed_by(limits).most(use.measured)
    if not use.at_most().exceeds(allowed):
        return None
    used = await use.measure()
    return workspace_full(used, limits) if used.exceeds(allowed) else None


async def _disk_breach(use: DiskUse, limits: Limits) -> Failure:
    """Measure until the workspace is too large. One that was before may stay, to be cleared up."""
    allowed = allowed_by(limits).most(use.measured)
    loop = asyncio.get_running_loop()
    # Starting a program takes the loop's time, and most turns have said their first words by then.
    earliest, due = loop.time(), loop.time() + _FIRST_DISK_SECONDS
    while True:
        await asyncio.sleep(_FREE_SECONDS)
        began = loop.time()
        # The space may have gone to others: then it is measured half of the time at most.
        if began < due and (began < earliest or not use.at_most().exceeds(allowed)):
            continue
        used = await use.measure()
        if used.exceeds(allowed):
            return workspace_full(used, limits)
        took = loop.time() - began
        earliest = loop.time() + took
        due = loop.time() + max(_DISK_SECONDS, took * _DISK_SHARE)
