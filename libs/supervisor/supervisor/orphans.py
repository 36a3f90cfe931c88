"""Processes that lost their parent: they become ours, and we end them.

A service that is killed may leave what it had started. As a subreaper we inherit that instead of init.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Container
from contextlib import suppress
from pathlib import Path
from typing import Final

_PR_SET_CHILD_SUBREAPER: Final = 36


def adopt_orphans() -> None:
    """Become the parent of every descendant that loses its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def end_orphans(own: Container[int]) -> int:
    """Kill and reap every child that is not in `own`; returns how many there were.

    Call it where no child is just being started. Children of those that it ends come to us only now: call it
    again until it returns 0.
    """
    orphans = [pid for pid in _children() if pid not in own]
    for pid in orphans:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        # Not blocking: one in a system call that cannot be broken off is met again next time.
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return len(orphans)


def end_all(deadline: float = 5.0) -> None:
    """Kill every descendant, until none is left or `deadline` seconds have passed."""
    until = time.monotonic() + deadline
    while end_orphans(own=()) and time.monotonic() < until:
        time.sleep(0.02)


def _children() -> list[int]:
    """Return the ids of our children. They belong to the thread that started or adopted them."""
    pids: list[int] = []
    for children in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            pids += [int(pid) for pid in children.read_text().split()]
    return pids
