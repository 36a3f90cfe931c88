"""A runner with real sandboxes and the real CLI, before a scripted model."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servicekit.starting import GRPC_VARIABLES
from servicekit.testing import Keys, test_keys
from support.required import lacking, program
from support.runner_house import runner_house

# As the services' own processes have it; read when gRPC first starts.
for name, value in GRPC_VARIABLES.items():
    os.environ.setdefault(name, value)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return test_keys(tmp_path)


@pytest.fixture(scope="session")
def docker_image() -> str:
    """An image for sandboxes on a real engine."""
    docker = program("docker", install="apt-get install docker.io")
    if subprocess.run([docker, "info"], capture_output=True, check=False).returncode:
        lacking("no Docker Engine answers: start dockerd")
    script = Path(__file__).parents[3] / "deploy" / "images" / "base.sh"
    made = subprocess.run([script], capture_output=True, text=True, timeout=600, check=False)
    if made.returncode:
        lacking(f"no base image could be made: {made.stderr[-200:]}")
    return made.stdout.strip()


# A container takes many times as long as bubblewrap. Unless POINTSMAN_DOCKER_TESTS=all, as in CI, Docker
# shows only that its isolation and its limits hold and its turns run.
_ON_DOCKER = {"test_confinement", "test_freezing", "test_oom_score", "test_turns"}
# What the runner does with an agent's messages and with its model calls is the same on every engine.
_ON_ONE_ENGINE = {
    "test_file_events",
    "test_hostile_model",
    "test_large_files",
    "test_models",
    "test_permission_modes",
    "test_relay",
    "test_tools",
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what does not run on Docker here: it is not skipped for anything that is missing."""
    everything = os.environ.get("POINTSMAN_DOCKER_TESTS") == "all"

    def runs(item: pytest.Item) -> bool:
        module = item.path.stem
        return module not in _ON_ONE_ENGINE if everything else module in _ON_DOCKER

    left_out = [item for item in items if _is_for_docker(item) and not runs(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def _is_for_docker(item: pytest.Item) -> bool:
    call = getattr(item, "callspec", None)
    return (
        item.path.parent == Path(__file__).parent
        and call is not None
        and call.params.get("engine") == "docker"
    )


@pytest.fixture(params=["bubblewrap", "docker"])
def engine(request: pytest.FixtureRequest) -> dict[str, str]:
    """The configuration of each implementation of sandboxes."""
    if request.param == "docker":
        return {"sandbox": "docker", "sandbox_image": request.getfixturevalue("docker_image")}
    program("bwrap", install="apt-get install bubblewrap")
    return {"sandbox": "bubblewrap"}


@pytest.fixture
def open_runner(keys: Keys, tmp_path: Path, engine: dict[str, str]) -> Callable[..., Any]:
    """`async with open_runner(script) as house`; keyword arguments are the runner's configuration."""

    def house(script: Any = (), **config: Any) -> Any:
        return runner_house(keys, tmp_path / "data", script, **engine, **config)

    return house
