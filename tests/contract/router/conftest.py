"""A router on a real socket, before a session service that plays a script."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from router.app import app
from servicekit.testing import Keys, started, test_keys
from support.router_house import House, configuration
from support.router_peers import SessionPeer, session_service


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return test_keys(tmp_path)


@pytest.fixture
def open_house(keys: Keys, tmp_path: Path) -> Callable[..., Any]:
    """`async with open_house(peer) as house`; keyword arguments are the router's configuration."""

    @asynccontextmanager
    async def house(peer: SessionPeer | None = None, **fields: Any) -> AsyncIterator[House]:
        script = peer or SessionPeer()
        async with session_service(script, keys) as session:
            config = configuration(keys, tmp_path / "data", session.address, **fields)
            async with started(app, config) as running:
                yield House(keys, script, running)

    return house


@pytest.fixture
async def house(open_house: Callable[..., Any]) -> AsyncIterator[House]:
    async with open_house() as running:
        yield running
