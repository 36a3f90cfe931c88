"""Removes a runner's containers when it dies: containers, unlike processes, have no parent to die with.

A small process of its own, in a session of its own, so that what kills the runner does not reach it. It waits
for its standard input: a byte says that the runner ended in order, the bare end that it did not.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from typing import Any, Final

RUNNER_LABEL: Final = "pointsman.runner"
"""Which process made a container; another one of the same installation may run by the time this looks."""
# A container that was being made when the runner died comes into being this much later at the most.
_QUIET_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.25
_GIVE_UP_SECONDS: Final = 60.0
_ENGINE_SECONDS: Final = 30
_CLOSE_SECONDS: Final = 5.0
_PASSED: Final = ("PATH", "HOME", "PYTHONPATH", "DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")


class DockerReaper:
    """The process, as its runner has it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @classmethod
    def start(cls, runner: str) -> DockerReaper:
        """Watch over the containers that are labelled with this runner."""
        return cls(
            subprocess.Popen(
                [sys.executable, "-m", "runner.sandboxes.docker_reaper", runner],
                stdin=subprocess.PIPE,
                env={name: os.environ[name] for name in _PASSED if name in os.environ},
                cwd="/",
                start_new_session=True,
            )
        )

    async def close(self) -> None:
        """Say that nothing is left, and wait until it is gone."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        try:
            self._process.communicate(b"\n", timeout=_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def main() -> None:
    """Wait for the runner's end, and clear up when it was none."""
    if not sys.stdin.buffer.read(1):
        _reap(sys.argv[1])


def _reap(runner: str) -> None:
    # Only now: it takes 25 MiB, and most runners end in order.
    import docker  # noqa: PLC0415
    import requests.exceptions  # noqa: PLC0415

    client = docker.from_env(timeout=_ENGINE_SECONDS)
    began = quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < _QUIET_SECONDS and time.monotonic() - began < _GIVE_UP_SECONDS:
        try:
            if remove_labelled(client.api, f"{RUNNER_LABEL}={runner}"):
                quiet_since = time.monotonic()
        except (docker.errors.DockerException, requests.exceptions.RequestException, OSError):
            # The engine is busy with one of them, or away; it is asked again.
            quiet_since = time.monotonic()
        time.sleep(_LOOK_SECONDS)


def remove_labelled(api: Any, label: str) -> int:
    """Remove all containers with a label, whatever state they are in; return how many there were.

    Raises the engine's faults, one of which is that somebody else is removing one of them just now.
    """
    found = api.containers(all=True, filters={"label": label})
    for container in found:
        api.remove_container(container["Id"], force=True)
    return len(found)


if __name__ == "__main__":
    main()
