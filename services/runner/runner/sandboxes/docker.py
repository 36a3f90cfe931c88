"""Sandboxes by Docker: a container for each, on an engine that is there already; gVisor as an option.

The image brings the tools that agents use; Claude Code itself is the runner's own, bound in, so that the two
ends of its protocol always fit.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import secrets
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

import docker
import requests.exceptions
import structlog
from docker.errors import DockerException
from pointsman.errors.v1 import errors_pb2
from servicekit.durable import make_private_folder
from servicekit.errors import Failure

from runner.sandboxes.docker_process import CPU_PERIOD_US, DockerProcess
from runner.sandboxes.docker_reaper import RUNNER_LABEL, DockerReaper, remove_labelled
from runner.sandboxes.docker_shares import PlacedShares, clear
from runner.sandboxes.docker_stream import AttachedStreams
from runner.sandboxes.memory import OOM_SCORE
from runner.sandboxes.protocol import AGENT_DIR, BOOT_CPUS, CLI, HOME, SHARED, WORKSPACE, SandboxSpec
from runner.sandboxes.root import HOSTS, own, passwd_of
from runner.sandboxes.seccomp import docker_profile

LABEL: Final = "pointsman.installation"
_OWNERS: Final = range(100_000_000, 1_100_000_000)
# The engine answers within a second; under load it queues.
_CALL_SECONDS: Final = 30
# Calls to the engine that are under way at once; each has a thread.
_CALLS: Final = 16
# Two who remove the same container get in each other's way for as long as that takes.
_REAP_TRIES: Final = 20
_REAP_PAUSE: Final = 0.25

Answer = TypeVar("Answer")
_log = structlog.get_logger("runner.sandboxes")
_FAULTS: Final = (DockerException, requests.exceptions.RequestException, OSError)


class DockerEngine:
    """Makes sandboxes on the engine that the environment names (DOCKER_HOST, else the local one).

    `state` must be known to the engine under the same path. `runtime` is '' for the engine's own, or `runsc`.
    """

    name = "docker"
    memory_together: int | None = None

    def __init__(self, state: Path, cli: Path, image: str, runtime: str = "") -> None:
        self._state = state
        self._cli_source = cli
        self._cli = state / "claude"
        self._image = image
        self._runtime = runtime
        self._shares = state / "shares"
        self._installation = hashlib.sha256(os.fsencode(state)).hexdigest()[:12]
        self._threads = ThreadPoolExecutor(_CALLS, thread_name_prefix="docker")
        self._client: Any = None
        self._runner = f"{self._installation}-{uuid.uuid4().hex}"
        self._reaper: DockerReaper | None = None

    async def prepare(self) -> None:
        """See SandboxEngine."""
        try:
            self._client = await self._call(lambda: docker.from_env(timeout=_CALL_SECONDS))
            await self._call(lambda: self._client.images.get(self._image))
        except docker.errors.ImageNotFound as error:
            raise _unsupported(
                f"the engine has no image {self._image}; make it with `make images`"
            ) from error
        except _FAULTS as error:
            raise _unsupported(
                "no Docker Engine answers; start one, or give its address as DOCKER_HOST"
            ) from error
        await self._call(self._place_files)
        await self._call(self._clear_shares)
        await self._reap()
        self._reaper = await self._call(lambda: DockerReaper.start(self._runner))

    async def close(self) -> None:
        """See SandboxEngine."""
        if self._reaper is not None:
            await self._reaper.close()
        await self._call(self._client.close)
        self._threads.shutdown(wait=False)

    def new_owner(self) -> int:
        """See SandboxEngine."""
        return secrets.choice(_OWNERS) if os.geteuid() == 0 else os.geteuid()

    async def launch(
        self, spec: SandboxSpec, command: Sequence[str], environment: Mapping[str, str]
    ) -> DockerProcess:
        """See SandboxEngine."""
        # Its own, because the caller's are closed when the call is cancelled.
        held = {name: os.dup(folder) for name, folder in spec.shared.items()}
        task = asyncio.ensure_future(self._launch(replace(spec, shared=held), command, environment))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            # The engine goes on with what it was asked for, so its result has to be awaited to be removed.
            task.add_done_callback(_remove_late)
            raise

    async def _launch(
        self, spec: SandboxSpec, command: Sequence[str], environment: Mapping[str, str]
    ) -> DockerProcess:
        if not spec.shared:
            return await self._start(spec, {}, command, environment)
        shares = PlacedShares(self._shares / spec.sandbox_id, spec.shared)
        try:
            await self._call(shares.put)
            return await self._start(spec, shares.places, shares.checked(command), environment)
        finally:
            for folder in spec.shared.values():
                os.close(folder)
            await self._call(shares.take_off)

    async def _start(
        self,
        spec: SandboxSpec,
        shared: Mapping[str, Path],
        command: Sequence[str],
        environment: Mapping[str, str],
    ) -> DockerProcess:
        container = ""
        api = self._client.api
        try:
            container = await self._call(lambda: self._create(spec, shared, command, environment))
            params = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            attached = await self._call(lambda: api.attach_socket(container, params=params))
            reader, writer = await asyncio.open_unix_connection(sock=_own_socket(attached))
            await self._call(lambda: api.start(container))
        except _FAULTS as error:
            if container:
                with contextlib.suppress(*_FAULTS):
                    await self._call(lambda: api.remove_container(container, force=True))
            why = getattr(error, "explanation", None) or error
            raise Failure(
                errors_pb2.ERROR_REASON_SANDBOX_START_FAILED,
                f"The Docker Engine did not start the sandbox: {why}",
            ) from error
        # Another runtime may have processes of its own in the group, which are not ours to stop.
        return DockerProcess(
            api,
            container,
            AttachedStreams(reader, writer),
            self._call,
            spec.limits.cpus,
            own_runtime=not self._runtime,
        )

    def _create(
        self,
        spec: SandboxSpec,
        shared: Mapping[str, Path],
        command: Sequence[str],
        environment: Mapping[str, str],
    ) -> str:
        """Make the container, which does not run yet; return its id."""
        owner = spec.workspace.stat().st_uid
        passwd = spec.folder / "passwd"
        hosts = spec.folder / "hosts"
        for path, text in ((passwd, passwd_of(owner)), (hosts, HOSTS)):
            path.write_text(text)
            own(path, owner)
        mounts = [
            _bind(spec.workspace, WORKSPACE, read_only=False),
            _bind(spec.agent_dir, AGENT_DIR),
            _bind(self._cli, CLI),
            _bind(passwd, "/etc/passwd"),
            _bind(hosts, "/etc/hosts"),
            *(_bind(place, f"{SHARED}/{name}") for name, place in shared.items()),
        ]
        limits = spec.limits
        host = self._client.api.create_host_config(
            mounts=mounts,
            network_mode="none",
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges", f"seccomp={json.dumps(docker_profile())}"],
            oom_score_adj=OOM_SCORE,
            pids_limit=limits.pids,
            mem_limit=limits.memory_bytes,
            memswap_limit=limits.memory_bytes,
            cpu_period=CPU_PERIOD_US,
            cpu_quota=int(max(limits.cpus, BOOT_CPUS) * CPU_PERIOD_US),
            tmpfs={
                "/tmp": f"size={limits.tmp_bytes},mode=1777",  # noqa: S108 - the sandbox's own
                HOME: f"size={limits.tmp_bytes},uid={owner},gid={owner},mode=0700",
            },
            shm_size=limits.tmp_bytes,
            init=True,
            ulimits=[
                docker.types.Ulimit(name="core", soft=0, hard=0),
                docker.types.Ulimit(name="nofile", soft=limits.open_files, hard=limits.open_files),
                docker.types.Ulimit(name="fsize", soft=limits.file_bytes, hard=limits.file_bytes),
            ],
            runtime=self._runtime or None,
            log_config={"Type": "none"},
        )
        # In it is what a process may ask of the kernel for itself, such as to be spared by the OOM killer.
        host["ReadonlyPaths"] = ["/proc"]
        made = self._client.api.create_container(
            self._image,
            list(command),
            name=f"pointsman-{spec.sandbox_id}",
            hostname="sandbox",
            # A network of its own with nothing in it is what every container begins with. With no more than
            # `network_mode` the engine would look after it as well, which takes two thirds of a start's time.
            network_disabled=True,
            user=f"{owner}:{owner}",
            environment=dict(environment),
            working_dir=WORKSPACE,
            stdin_open=True,
            detach=False,
            labels={LABEL: self._installation, RUNNER_LABEL: self._runner},
            host_config=host,
            entrypoint=[],
        )
        return str(made["Id"])

    def _place_files(self) -> None:
        """Put what all sandboxes have where the engine finds it: below `state`, as all else that is bound."""
        make_private_folder(self._state)
        self._cli.unlink(missing_ok=True)
        try:
            self._cli.hardlink_to(self._cli_source)
        except OSError:
            shutil.copy2(self._cli_source, self._cli)

    def _clear_shares(self) -> None:
        for left in self._shares.glob("*"):
            clear(left)

    async def _reap(self) -> None:
        """Remove what earlier runners left, maybe beside the process that watched over the last one."""
        removed = 0
        for _ in range(_REAP_TRIES):
            try:
                found = await self._call(
                    lambda: remove_labelled(self._client.api, f"{LABEL}={self._installation}")
                )
            except _FAULTS:
                await asyncio.sleep(_REAP_PAUSE)
                continue
            removed += found
            if not found:
                break
        else:
            _log.error("orphans_left", installation=self._installation)
        if removed:
            _log.warning("orphans_removed", sandboxes=removed)

    async def _call(self, call: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def _bind(source: Path, target: str, *, read_only: bool = True) -> dict[str, Any]:
    return docker.types.Mount(target, str(source), type="bind", read_only=read_only, propagation="rprivate")


def _own_socket(attached: Any) -> Any:
    """Return the connection itself: the SDK wraps it in files, for use with threads."""
    raw = attached._sock
    raw.setblocking(False)
    return raw


def _remove_late(task: asyncio.Future[DockerProcess]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().remove_soon()


def _unsupported(why: str) -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_SANDBOX_UNSUPPORTED,
        f"Docker cannot make sandboxes here: {why}; or install bubblewrap (apt-get install bubblewrap).",
    )
