"""A sandbox that is a container."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import requests.exceptions
from docker.errors import DockerException, NotFound

from runner.sandboxes.cgroups import Cgroup
from runner.sandboxes.docker_stream import AttachedStreams
from runner.sandboxes.protocol import ByteSink, ByteSource

CPU_PERIOD_US: Final = 100_000
_GONE: Final = 137
_MOUNT: Final = Path("/sys/fs/cgroup")
_FAULTS: Final = (DockerException, requests.exceptions.RequestException, OSError)


class DockerProcess:
    """See SandboxProcess. `call` runs a blocking call to the engine beside the loop."""

    def __init__(
        self,
        container: Any,
        streams: AttachedStreams,
        call: Callable[[Callable[[], Any]], Awaitable[Any]],
        cpus: float,
    ) -> None:
        self._container = container
        self._streams = streams
        self._call = call
        self._cpus = cpus
        self._group = _group_of(container.id)
        self._exit_code: int | None = None
        self._oom = False
        self._killing: asyncio.Task[None] | None = None

    @property
    def stdin(self) -> ByteSink:
        """See SandboxProcess."""
        return self._streams.stdin

    @property
    def stdout(self) -> ByteSource:
        """See SandboxProcess."""
        return self._streams.stdout

    @property
    def stderr(self) -> ByteSource:
        """See SandboxProcess."""
        return self._streams.stderr

    async def wait(self) -> int:
        """See SandboxProcess."""
        await self._streams.ended.wait()
        if self._exit_code is None:
            await self._look()
        return _GONE if self._exit_code is None else self._exit_code

    async def _look(self) -> None:
        """Ask the engine how it ended; the connection ends a moment before the container does."""
        try:
            answer = await self._call(lambda: self._container.wait(timeout=5))
            self._exit_code = int(answer["StatusCode"])
            await self._call(self._container.reload)
            self._oom = self._oom or bool(self._container.attrs["State"]["OOMKilled"])
        except _FAULTS:
            return

    async def kill(self) -> None:
        """See SandboxProcess."""
        if self._killing is None:
            self._killing = asyncio.create_task(self._kill(), name="sandbox's end")
        await asyncio.shield(self._killing)

    async def _kill(self) -> None:
        self._oom = self.out_of_memory()
        with contextlib.suppress(NotFound):
            await self._call(lambda: self._container.remove(force=True))
        if self._exit_code is None:
            self._exit_code = _GONE
        self._streams.close()

    def remove_soon(self) -> None:
        """End it without waiting for the end."""
        self._killing = asyncio.create_task(self._kill(), name="sandbox's end")

    async def settle(self) -> None:
        """See SandboxProcess."""
        quota = int(self._cpus * CPU_PERIOD_US)
        with contextlib.suppress(*_FAULTS):
            await self._call(lambda: self._container.update(cpu_period=CPU_PERIOD_US, cpu_quota=quota))

    async def pause(self) -> None:
        """See SandboxProcess."""
        if self._killing is None:
            with contextlib.suppress(DockerException):
                await self._call(self._container.pause)

    async def resume(self) -> None:
        """See SandboxProcess."""
        if self._killing is None:
            with contextlib.suppress(DockerException):
                await self._call(self._container.unpause)

    def memory_bytes(self) -> int:
        """See SandboxProcess. Known when the engine is on this machine."""
        return self._group.memory_bytes() if self._group and self._killing is None else 0

    def refused_forks(self) -> int:
        """See SandboxProcess. Known when the engine is on this machine."""
        return self._group.refused_forks() if self._group and self._killing is None else 0

    def out_of_memory(self) -> bool:
        """See SandboxProcess."""
        if self._group is not None and self._killing is None:
            self._oom = self._oom or self._group.oom_kills() > 0
        return self._oom


def _group_of(container_id: str) -> Cgroup | None:
    """Return the container's control group, None when the engine keeps it where we cannot see it."""
    for path in (_MOUNT / "system.slice" / f"docker-{container_id}.scope", _MOUNT / "docker" / container_id):
        if (path / "memory.current").exists():
            return Cgroup({"": path}, unified=True)
    folders = {part: _MOUNT / part / "docker" / container_id for part in ("memory", "pids")}
    if all(folder.is_dir() for folder in folders.values()):
        return Cgroup(folders, unified=False)
    return None
