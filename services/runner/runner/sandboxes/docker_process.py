"""A sandbox that is a container."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import requests.exceptions
import structlog
from docker.errors import DockerException, NotFound

from runner.sandboxes.cgroup import FREEZER, UNIFIED, Cgroup
from runner.sandboxes.cgroup_mounts import mounted
from runner.sandboxes.docker_stream import AttachedStreams
from runner.sandboxes.protocol import ByteSink, ByteSource

CPU_PERIOD_US: Final = 100_000
_GONE: Final = 137
_LOOK_SECONDS: Final = 5
# An engine under load says no, or is just about to remove it.
_REMOVE_TRIES: Final = 5
_REMOVE_PAUSE: Final = 0.2
# So long is the engine waited for when nothing of the container runs any more.
_REMOVED_SECONDS: Final = 5.0
_MOUNT: Final = Path("/sys/fs/cgroup")
_FAULTS: Final = (DockerException, requests.exceptions.RequestException, OSError)

# Removals that nobody waits for any more, so that they are not lost.
_REMOVALS: Final[set[asyncio.Task[None]]] = set()

_log = structlog.get_logger("runner.sandboxes")


class DockerProcess:
    """See SandboxProcess. `call` runs a blocking call to the engine beside the loop."""

    def __init__(
        self,
        api: Any,
        container_id: str,
        streams: AttachedStreams,
        call: Callable[[Callable[[], Any]], Awaitable[Any]],
        cpus: float,
        *,
        own_runtime: bool,
    ) -> None:
        self._api = api
        self._container = container_id
        self._streams = streams
        self._call = call
        self._cpus = cpus
        self._group = _group_of(container_id)
        # A tenth of the time that the engine takes to stop, continue or kill what is in it.
        self._own_group = self._group if own_runtime and os.geteuid() == 0 else None
        # By the engine, when its freezer is version 1's: it knows to thaw what it is asked to remove.
        own_freezer = self._own_group is not None and self._own_group.freezer == "cgroup2"
        self._freezer = self._own_group if own_freezer else None
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
            answer = await self._call(lambda: self._api.wait(self._container, timeout=_LOOK_SECONDS))
            self._exit_code = int(answer["StatusCode"])
            seen = await self._call(lambda: self._api.inspect_container(self._container))
            self._oom = self._oom or bool(seen["State"]["OOMKilled"])
        except _FAULTS:
            return

    async def kill(self) -> None:
        """See SandboxProcess."""
        if self._killing is None:
            self._killing = asyncio.create_task(self._kill(), name="sandbox's end")
        await asyncio.shield(self._killing)

    async def _kill(self) -> None:
        self._oom = self.out_of_memory()
        # First the connection: the engine waits, up to a minute, for somebody to take what a container said.
        self._streams.close()
        removing = asyncio.create_task(self._remove(), name="container's removal")
        if self._own_group is None:
            await removing
        else:
            # Its turn does not wait for an engine that is busy: nothing of it runs any more.
            _REMOVALS.add(removing)
            removing.add_done_callback(_REMOVALS.discard)
            await asyncio.to_thread(self._own_group.kill)
            await asyncio.wait({removing}, timeout=_REMOVED_SECONDS)
        if self._exit_code is None:
            self._exit_code = _GONE

    async def _remove(self) -> None:
        for _ in range(_REMOVE_TRIES):
            try:
                await self._call(lambda: self._api.remove_container(self._container, force=True))
                return
            except NotFound:
                return
            except _FAULTS as error:
                fault = error
            await asyncio.sleep(_REMOVE_PAUSE)
        # What the engine does not remove now, the next runner's start does.
        _log.error("sandbox_not_ended", container=self._container, fault=str(fault))

    def remove_soon(self) -> None:
        """End it without waiting for the end."""
        self._killing = asyncio.create_task(self._kill(), name="sandbox's end")

    async def settle(self) -> None:
        """See SandboxProcess."""
        quota = int(self._cpus * CPU_PERIOD_US)
        with contextlib.suppress(*_FAULTS):
            await self._call(
                lambda: self._api.update_container(self._container, cpu_period=CPU_PERIOD_US, cpu_quota=quota)
            )

    async def pause(self) -> None:
        """See SandboxProcess."""
        if self._killing is not None:
            return
        if self._freezer is not None:
            await self._freezer.pause()
        else:
            await self._ask(self._api.pause)

    async def resume(self) -> None:
        """See SandboxProcess."""
        if self._killing is not None:
            return
        if self._freezer is not None:
            self._freezer.freeze(frozen=False)
        else:
            await self._ask(self._api.unpause)

    async def _ask(self, act: Callable[[str], Any]) -> None:
        try:
            await self._call(lambda: act(self._container))
        except DockerException as error:
            raise OSError(f"the Docker Engine refuses: {error}") from error

    def processes(self) -> Sequence[int]:
        """See SandboxProcess. Known when the engine is on this machine."""
        return self._group.processes() if self._group and self._killing is None else ()

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
    unified = _unified_of(container_id)
    if unified is not None and (unified / "memory.current").exists():
        return Cgroup({UNIFIED: unified}, unified=True)
    folders = {part: _MOUNT / part / "docker" / container_id for part in ("memory", "pids", FREEZER)}
    if not all(folder.is_dir() for folder in folders.values()):
        return None
    if unified is not None:
        del folders[FREEZER]
        folders[UNIFIED] = unified
    return Cgroup(folders, unified=False)


def _unified_of(container_id: str) -> Path | None:
    """Return its folder in version 2's hierarchy, where the engine puts its processes there as well."""
    for _, mount in mounted(Path("/proc/self/mountinfo").read_text()):
        for name in (Path("system.slice") / f"docker-{container_id}.scope", Path("docker") / container_id):
            try:
                if (mount / name / "cgroup.freeze").exists() and (mount / name / "cgroup.procs").read_text():
                    return mount / name
            except OSError:
                continue
    return None
