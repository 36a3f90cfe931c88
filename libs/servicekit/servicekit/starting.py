"""A service's start: most of it is importing."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

GRPC_VARIABLES: Final[Mapping[str, str]] = {
    # Its handlers at fork are for programs that fork and go on; ours start other programs, and a child was
    # seen to die in them.
    "GRPC_ENABLE_FORK_SUPPORT": "0",
    # The thread that waits for calls also reads their sockets, as it did before release 1.80: a message then
    # wakes two threads and not five. See ADR 22.
    "GRPC_EXPERIMENTS": "-event_engine_client,-event_engine_listener",
}
"""What gRPC reads from the environment when it starts, and what our processes want of it."""


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import a service inside, first of all in `__main__`.

    Garbage is not looked for meanwhile, of which imports make none; that is a fifth of their time. What was
    imported is not looked at later either: it stays as long as the process.
    """
    _with_grpc_variables()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _with_grpc_variables() -> None:
    """Start this process anew with gRPC's variables, unless the environment has decided on all of them.

    gRPC reads them when it is imported: this is before that, and before all that takes time.
    """
    missing = {name: value for name, value in GRPC_VARIABLES.items() if name not in os.environ}
    if missing:
        arguments = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, arguments, {**os.environ, **missing})  # noqa: S606 - ourselves
