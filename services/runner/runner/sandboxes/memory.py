"""Who loses when the machine's memory is full: sandboxes, never a service.

Sandboxes may be given more memory together than there is. Two things keep that from the services: together
they get less than the machine has, where control groups can be made; and the kernel's OOM killer takes a
sandbox's process first.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import structlog

from runner.sandboxes.protocol import GIB

OOM_SCORE: Final = 1000
"""oom_score_adj of every process in a sandbox: the most there is. Nothing in one can lower it."""
# For services, the kernel and whatever else the machine does: a quarter of a small machine.
_RESERVE: Final = 2 * GIB
_OWN_LIMITS: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")

_log = structlog.get_logger("runner.sandboxes")


def sandboxes_memory() -> int:
    """Return how many bytes all sandboxes may have together."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _OWN_LIMITS:
        # Of a container that we are in; at the top of a machine there is none.
        total = min(total, _limit(Path(path)) or total)
    return total - min(_RESERVE, total // 4)


def log_overcommitment(max_instances: int, memory_bytes: int, together: int | None) -> None:
    """Say at the start what holds when sandboxes want more memory than there is. See SandboxEngine."""
    _log.info(
        "memory_overcommitment",
        sandboxes_at_most=max_instances * memory_bytes,
        together_at_most=together,
        sandbox_oom_score_adj=OOM_SCORE,
        runner_oom_score_adj=own_oom_score(),
    )


def own_oom_score() -> int:
    """Return this process's own oom_score_adj, which the supervisor lowers where it may."""
    return int(Path("/proc/self/oom_score_adj").read_text())


def _limit(path: Path) -> int:
    """Return a limit, 0 when there is none."""
    try:
        text = path.read_text().strip()
    except OSError:
        return 0
    return int(text) if text.isdigit() else 0
