"""A service's start: most of it is importing."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_FORK_SUPPORT: Final = "GRPC_ENABLE_FORK_SUPPORT"


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import a service inside, first of all in `__main__`.

    Garbage is not looked for meanwhile, of which imports make none; that is a fifth of their time. What was
    imported is not looked at later either: it stays as long as the process.
    """
    _without_fork_support()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _without_fork_support() -> None:
    """Start this process anew without gRPC's fork handlers, unless the environment has decided on them.

    They are for programs that fork and go on; ours start other programs, and a child was seen to die in
    them. gRPC reads the variable when it is imported: this is before that, and before all that takes time.
    """
    if _FORK_SUPPORT not in os.environ:
        arguments = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, arguments, {**os.environ, _FORK_SUPPORT: "0"})  # noqa: S606 - ourselves
