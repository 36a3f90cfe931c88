"""llm-proxy as a fixture."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.llm_proxy_house import ProxyHouse, proxy_house


@pytest.fixture
async def demo(tmp_path: Path) -> AsyncIterator[ProxyHouse]:
    """A proxy without any credential."""
    async with proxy_house(tmp_path) as house:
        yield house
