"""Which engine makes the sandboxes. There is always one: an agent never runs unconfined."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import structlog
from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from runner.config import RunnerConfig
from runner.sandboxes.bubblewrap import BubblewrapEngine
from runner.sandboxes.docker import DockerEngine
from runner.sandboxes.memory import log_overcommitment
from runner.sandboxes.protocol import SandboxEngine

_log = structlog.get_logger("runner.sandboxes")


async def choose_engine(config: RunnerConfig, state: Path, cli: Path) -> SandboxEngine:
    """Return an engine that is ready: the one that is wanted, or with `auto` the first that can.

    Raises Failure SANDBOX_UNSUPPORTED, saying what to install.
    """
    engines: Mapping[str, SandboxEngine] = {
        "bubblewrap": BubblewrapEngine(state / "bubblewrap", cli),
        "docker": DockerEngine(state / "docker", cli, config.sandbox_image, config.docker_runtime),
    }
    refusals: list[str] = []
    for name, engine in engines.items():
        if config.sandbox in (name, "auto"):
            try:
                await engine.prepare()
            except Failure as failure:
                if failure.reason != errors_pb2.ERROR_REASON_SANDBOX_UNSUPPORTED:
                    raise
                refusals.append(failure.message)
            else:
                _log.info("sandboxes", implementation=name)
                log_overcommitment(config.max_instances, config.limits.memory_bytes, engine.memory_together)
                return engine
    raise Failure(errors_pb2.ERROR_REASON_SANDBOX_UNSUPPORTED, " ".join(refusals))
