"""Context from a function of somebody's installed package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.router.v1 import router_service_pb2 as pb
from router.settings import load_settings
from servicekit.config import ConfigError

FUNCTIONS = """
import asyncio

async def stock(occasion):
    return f"{occasion.account} of {occasion.tenant} asked {occasion.prompt!r}: 7 anvils"

async def broken(occasion):
    raise RuntimeError("a secret of the database")

async def slow(occasion):
    await asyncio.Event().wait()

async def much(occasion):
    return "x" * 1_000_000
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with four functions, as pip would have installed it."""
    site = tmp_path / "site"
    about = site / "shop_context-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "shop_context.py").write_text(FUNCTIONS)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: shop-context\nVersion: 1.0\n")
    names = "".join(f"{name} = shop_context:{name}\n" for name in ("stock", "broken", "slow", "much"))
    (about / "entry_points.txt").write_text(f"[pointsman.context]\n{names}")
    monkeypatch.syspath_prepend(str(site))
    return site


def settings(tmp_path: Path, *names: str, **fields: Any) -> Path:
    # Only for the one that never ends is it short.
    deadlines = {name: 1 if name == "slow" else 30 for name in names}
    providers = [
        {"name": name, "kind": "python", "entry_point": name, "deadline_seconds": deadlines[name], **fields}
        for name in names
    ]
    path = tmp_path / "router.yaml"
    path.write_text(json.dumps({"context": providers}))
    return path


async def start(open_house: Any, file: Path) -> Any:
    async with open_house(settings_file=file) as house:
        request = pb.StartTurnRequest(prompt="how many?", account="acme-1")
        await house.router.StartTurn(request, metadata=house.caller(), timeout=60)
        return house.peer.enqueued[-1]


@pytest.mark.usefixtures("installed")
async def test_functions_are_asked_at_once_and_told_whose_prompt_it_is(open_house, tmp_path):
    names = ("stock", "broken", "slow", "much")
    enqueued = await start(open_house, settings(tmp_path, *names, max_bytes=1000))
    assert "acme-1 of acme asked 'how many?': 7 anvils" in enqueued.context
    assert "[cut: there is more than fits]" in enqueued.context
    assert len(enqueued.context) < 3000
    told = {
        e.context_created.provider: e.context_created
        for e in enqueued.preface
        if e.HasField("context_created")
    }
    assert list(told) == list(names)
    assert told["broken"].error.reason == errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE
    # What a function says of itself may hold anything.
    assert "secret" not in told["broken"].error.message
    assert told["slow"].error.reason == errors_pb2.ERROR_REASON_CALL_TIMED_OUT


async def test_a_function_that_nobody_installed_ends_the_start_with_its_name(open_house, tmp_path):
    file = settings(tmp_path, "nowhere")
    assert load_settings(file).context
    with pytest.raises(ConfigError, match=r"nowhere.*pointsman\.context"):
        await start(open_house, file)
