"""Which engine makes the sandboxes. There is always one: an agent never runs unconfined."""

from __future__ import annotations

from pathlib import Path

from runner.sandboxes.bubblewrap import BubblewrapEngine
from runner.sandboxes.protocol import SandboxEngine


async def choose_engine(wanted: str, state: Path, cli: Path) -> SandboxEngine:
    """Return an engine that is ready. Raises Failure SANDBOX_UNSUPPORTED, saying what to install."""
    engine = BubblewrapEngine(state / "bubblewrap", cli)
    await engine.prepare()
    return engine
