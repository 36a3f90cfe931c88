"""A scripted runner on a real socket: its agents do as told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from pointsman.errors.v1 import errors_pb2
from pointsman.runner.v1 import runner_service_pb2 as runner
from pointsman.runner.v1 import runner_service_pb2_grpc
from pointsman.session.v1.event_pb2 import Event
from servicekit.drain import Drain
from servicekit.errors import Failure
from servicekit.serving import Servicer
from support.session_scripts import DELTAS, SCRIPTS, Script, ScriptedTurn
from support.session_workspaces import ScriptedWorkspaces


class ScriptedRunner(ScriptedWorkspaces):
    """A runner whose agents do what the first word of the prompt says.

    `journal` is what it did: (time, "start" or "end", turn). Overlaps in it are overlaps.
    """

    def __init__(self, scripts: dict[str, Script] | None = None) -> None:
        super().__init__()
        self.scripts = SCRIPTS | (scripts or {})
        self.turns: dict[str, ScriptedTurn] = {}
        self.past: dict[str, ScriptedTurn] = {}
        # From this time on it knows of every turn that came (microseconds since 1970).
        self.since = 1
        # Where it writes down what turns say, for the process that comes after it.
        self.notes: Path | None = None
        self.journal: list[tuple[float, str, str]] = []
        self.requests: list[runner.RunTurnRequest] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.refusing = False
        """Whether new turns are refused, as a runner that stops does."""

    def as_servicer(self) -> Servicer:
        """Return what `servicekit.testing.serve` takes."""
        return Servicer(
            runner_service_pb2_grpc.add_RunnerServiceServicer_to_server,
            self,
            runner.DESCRIPTOR.services_by_name["RunnerService"],
        )

    async def RunTurn(
        self, request: runner.RunTurnRequest, _context: Any
    ) -> AsyncIterator[runner.RunTurnResponse]:
        self.requests.append(request)
        turn = self.turns.get(request.turn)
        if turn is None:
            if request.attach_only:
                for item in self._past(request):
                    yield item
                return
            if self.refusing:
                raise Drain.failure()
            self._refuse_second(request.turn)
            turn = self._start(request)
        if request.epoch < turn.epoch:
            raise Failure(errors_pb2.ERROR_REASON_LEASE_LOST, "A newer owner has the turn.")
        turn.epoch = request.epoch
        index, live = request.after_index, len(turn.live)
        while True:
            while index < len(turn.items):
                event = turn.items[index]
                index += 1
                live = max(live, turn.live.index(event) + 1)
                yield runner.RunTurnResponse(index=index, event=event)
            if turn.over:
                return
            await turn.more_than(live, index)
            for event in turn.live[live:]:
                if event.WhichOneof("kind") not in DELTAS:
                    break
                live += 1
                yield runner.RunTurnResponse(event=event)

    def _past(self, request: runner.RunTurnRequest) -> Iterator[runner.RunTurnResponse]:
        """Say what is known of a turn that does not run here any more."""
        past = self.past.get(request.turn) or self._noted(request)
        if past is None:
            since = str(self.since)
            raise Failure(errors_pb2.ERROR_REASON_TURN_NOT_FOUND, "There is no such turn.", since=since)
        for index, event in enumerate(past.items, 1):
            if index > request.after_index:
                yield runner.RunTurnResponse(index=index, event=event)
        if not any(event.HasField("turn_finished") for event in past.items):
            acted = any(event.HasField("tool_use") for event in past.items)
            reason = errors_pb2.ERROR_REASON_TURN_NOT_FOUND
            raise Failure(reason, "It was cut off.", acted="true" if acted else "false")

    def _noted(self, request: runner.RunTurnRequest) -> ScriptedTurn | None:
        """Return a turn of a process before this one."""
        notes = None if self.notes is None else self.notes / request.turn.replace("/", "-")
        if notes is None or not notes.exists():
            return None
        items = [Event.FromString(bytes.fromhex(line)) for line in notes.read_text().splitlines()]
        return ScriptedTurn(request.turn, "", 0, "", request, items)

    def _refuse_second(self, name: str) -> None:
        session = name.partition("/turns/")[0]
        for turn in self.turns.values():
            if turn.session == session and not turn.over:
                raise Failure(
                    errors_pb2.ERROR_REASON_TURN_RUNNING, "Another turn of the session runs.", turn=turn.name
                )

    def _start(self, request: runner.RunTurnRequest) -> ScriptedTurn:
        session = request.turn.partition("/turns/")[0]
        turn = ScriptedTurn(request.turn, session, request.epoch, request.prompt, request)
        self.turns[request.turn] = turn
        if self.notes is not None:
            turn.notes = self.notes / request.turn.replace("/", "-")
            turn.notes.write_text("")
        task = asyncio.create_task(self._run(turn))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return turn

    async def _run(self, turn: ScriptedTurn) -> None:
        self.journal.append((time.monotonic(), "start", turn.name))
        script = self.scripts[turn.prompt.split("\n")[-1].split(" ")[0]]
        turn.prompt = turn.prompt.split("\n")[-1]
        await script(self, turn)
        self.journal.append((time.monotonic(), "end", turn.name))
        async with turn.changed:
            turn.over = True
            turn.changed.notify_all()

    def forget(self) -> None:
        """Lose all turns, as a runner that was killed does."""
        for task in self._tasks:
            task.cancel()
        self.past |= self.turns
        self.turns.clear()

    async def CancelTurn(self, request: runner.CancelTurnRequest, _context: Any) -> runner.CancelTurnResponse:
        turn = self.turns.get(request.turn)
        if turn is None or turn.over:
            return runner.CancelTurnResponse(found=False)
        async with turn.changed:
            turn.cancelled.set()
            turn.changed.notify_all()
        return runner.CancelTurnResponse(found=True)

    async def DecidePermission(
        self, request: runner.DecidePermissionRequest, _context: Any
    ) -> runner.DecidePermissionResponse:
        turn = self.turns.get(request.turn)
        if turn is None:
            return runner.DecidePermissionResponse(found=False)
        async with turn.changed:
            turn.decisions[request.decided.permission_id] = request.decided
            turn.changed.notify_all()
        return runner.DecidePermissionResponse(found=True)
