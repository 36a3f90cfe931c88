"""What a test needs of the machine: without it, it is skipped, or fails where everything has to be there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

_ROOT = Path(__file__).resolve().parents[2]


def lacking(what: str) -> NoReturn:
    """Skip the test for a part that this machine lacks; fail with POINTSMAN_REQUIRE_ALL=1."""
    if os.environ.get("POINTSMAN_REQUIRE_ALL") == "1":
        pytest.fail(f"{what}, and POINTSMAN_REQUIRE_ALL=1")
    pytest.skip(what)


def program(name: str, *, install: str) -> str:
    """Path of a program, also of one of Go's or of our own environment's; `install` says how to get it."""
    gobin = Path.home() / "go" / "bin"
    path = shutil.which(name, path=f"{os.environ['PATH']}:{gobin}:{_ROOT / '.venv' / 'bin'}")
    if path is None:
        lacking(f"{name} is not installed: {install}")
    return path
