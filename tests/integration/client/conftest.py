"""The real router behind the real edge, before a session service that plays a script."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from servicekit.testing import Keys, test_keys
from support.router_front import front


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return test_keys(tmp_path)


@pytest.fixture
def open_front(keys: Keys, tmp_path: Path) -> Callable[..., Any]:
    """`async with open_front(peer) as front`; keyword arguments are the router's configuration."""
    return partial(front, keys, tmp_path)
