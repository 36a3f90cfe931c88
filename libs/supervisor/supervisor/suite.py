"""All processes of an installation, from the first start to the last stop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from supervisor.data_dir import DataDir
from supervisor.edge_admin import ask_envoy
from supervisor.keeper import Keeper, Service
from supervisor.log_file import Console, LogFile
from supervisor.orphans import end_all, end_orphans

# Services stop within 14 seconds by themselves; the rest is for a busy machine.
_GRACE_SECONDS: Final = 18.0
_EDGE_GRACE_SECONDS: Final = 3.0
_SWEEP_SECONDS: Final = 2.0


class Suite:
    """Starts the services and the edge, keeps them running, and stops them in order."""

    def __init__(self, services: Sequence[Service], edge: Service, data: DataDir) -> None:
        """`services` are stopped stage by stage, after the edge takes no new connections."""
        self._starting = asyncio.Lock()
        self._logs = [LogFile(data.logs / f"{service.name}.log") for service in (*services, edge)]
        keepers = [
            Keeper(service, log, Console(service.name, log.path), self._starting)
            for service, log in zip((*services, edge), self._logs, strict=True)
        ]
        self._services, self._edge = keepers[:-1], keepers[-1]
        self._edge_folder = data.edge

    @property
    def _keepers(self) -> list[Keeper]:
        return [*self._services, self._edge]

    async def ready(self) -> None:
        """Return when every service has answered."""
        for keeper in self._keepers:
            await keeper.ready.wait()

    async def keep(self) -> None:
        """Keep everything running until cancelled. Raises Refusal as soon as a service is given up on."""
        tasks = [asyncio.create_task(keeper.keep()) for keeper in self._keepers]
        tasks.append(asyncio.create_task(self._sweep()))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _sweep(self) -> None:
        """End what services left behind when they died."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            async with self._starting:
                end_orphans({keeper.pid for keeper in self._keepers if keeper.pid is not None})

    async def stop(self) -> None:
        """Stop everything in order: the edge takes no new connections, the services stop, the edge ends last.

        So the last message of a stream that a service ends still reaches the client.
        """
        await asyncio.to_thread(self._close_listeners)
        for stage in sorted({keeper.service.stop_stage for keeper in self._services}):
            stops = [k.stop(_GRACE_SECONDS) for k in self._services if k.service.stop_stage == stage]
            await asyncio.gather(*stops)
        await self._edge.stop(_EDGE_GRACE_SECONDS)

    def _close_listeners(self) -> None:
        # An edge that does not answer takes no connections either.
        with suppress(OSError):
            ask_envoy(self._edge_folder, "drain_listeners", "POST")

    def kill(self) -> None:
        """End everything now."""
        for keeper in self._keepers:
            keeper.kill()

    def close(self) -> None:
        """End what is left over, and close the logs. After `stop`."""
        end_all()
        for log in self._logs:
            log.close()
