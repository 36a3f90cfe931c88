"""A runner with real sandboxes and the real CLI, before a scripted model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servicekit.testing import Keys, test_keys
from support.runner_house import runner_house


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return test_keys(tmp_path)


@pytest.fixture
def open_runner(keys: Keys, tmp_path: Path) -> Callable[..., Any]:
    """`async with open_runner(script) as house`; keyword arguments are the runner's configuration."""
    if shutil.which("bwrap") is None:
        if os.environ.get("POINTSMAN_REQUIRE_ALL") == "1":
            pytest.fail("bubblewrap is not installed, and POINTSMAN_REQUIRE_ALL=1")
        pytest.skip("bubblewrap is not installed: apt-get install bubblewrap")

    def house(script: Any = (), **config: Any) -> Any:
        return runner_house(keys, tmp_path / "data", script, **config)

    return house
