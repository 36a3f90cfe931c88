"""Booting a session's sandbox while its first turn is still being made durable."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from pointsman.errors.v1 import errors_pb2
from pointsman.runner.v1 import runner_service_pb2
from pointsman.session.v1 import turn_pb2
from servicekit.errors import Failure

from session import names
from session.options import filled_in
from session.peers import Party, Runner
from session.storage.rows import SessionRow

_log = structlog.get_logger("session.prepare")

# Hints under way; past it the turn itself makes the sandbox, a little later.
_AT_ONCE: Final = 32


class Preparer:
    """Sends hints to the runner. One that fails or is left out costs time, nothing else."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._tasks: set[asyncio.Task[None]] = set()

    def prepare(
        self,
        party: Party,
        session_id: str,
        model: str,
        options: turn_pb2.TurnOptions,
        sandbox: runner_service_pb2.SandboxSettings | None = None,
    ) -> None:
        """Tell the runner that a turn of this session is coming, and do not wait for its answer.

        `sandbox` is what its sandbox will have; None for nothing.
        """
        if len(self._tasks) >= _AT_ONCE:
            return
        request = runner_service_pb2.PrepareSandboxRequest(
            session=names.session_name(session_id),
            account=party.account,
            model=model,
            options=options,
            sandbox=sandbox,
        )
        task = asyncio.create_task(self._send(party, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, party: Party, request: runner_service_pb2.PrepareSandboxRequest) -> None:
        try:
            await self._runner.prepare(party, request)
        except Failure as failure:
            _log.info("prepare_failed", session=request.session, reason=failure.reason_name)

    async def check(self, party: Party, session: SessionRow) -> None:
        """Boot the sandbox of a session, and hear whether it may be as it is to be.

        Raises Failure EGRESS_NOT_ALLOWED. Whatever else goes wrong is for its next turn to tell.
        """
        request = runner_service_pb2.PrepareSandboxRequest(
            session=session.name,
            account=session.account,
            model=session.preferred_model,
            options=filled_in(session.default_options),
            sandbox=session.sandbox,
            workspace_made=bool(session.workspace_made),
        )
        try:
            await self._runner.prepare(party, request)
        except Failure as failure:
            if failure.reason == errors_pb2.ERROR_REASON_EGRESS_NOT_ALLOWED:
                raise
            _log.info("prepare_failed", session=request.session, reason=failure.reason_name)

    async def close(self) -> None:
        """Break off what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
