"""RunnerService: proto in, domain call, proto out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from pointsman.runner.v1 import runner_service_pb2 as pb
from pointsman.runner.v1 import runner_service_pb2_grpc as rpc
from servicekit.context import current_passport, current_request_id, log_fields
from servicekit.serving import Drain

from runner.lifecycle.lifecycle import Lifecycle
from runner.lifecycle.sandbox import Sandbox
from runner.lifecycle.settings import Settings
from runner.names import SessionRef, TurnRef
from runner.servicer_files import FilesServicer
from runner.turns.turn_runner import Caller, TurnRunner, TurnWork, prompt_with
from runner.turns.turns import PastTurn, Turn, Turns
from runner.workspace.store import WorkspaceStore

Context = Any


class RunnerServicer(FilesServicer, rpc.RunnerServiceServicer):
    """See runner_service.proto."""

    def __init__(
        self,
        *,
        turns: Turns,
        runner: TurnRunner,
        lifecycle: Lifecycle,
        store: WorkspaceStore,
        drain: Drain,
        implementation: str,
    ) -> None:
        super().__init__(lifecycle, store)
        self._turns = turns
        self._runner = runner
        self._drain = drain
        self._implementation = implementation

    async def RunTurn(
        self, request: pb.RunTurnRequest, context: Context
    ) -> AsyncIterator[pb.RunTurnResponse]:
        """See runner_service.proto."""
        ref = TurnRef.parse(current_passport().tenant, request.turn)
        log_fields(session=ref.session.name, turn=ref.name, account=request.account)
        turn = await self._turn(ref, request)
        async for item in turn.follow(request.after_index, request.epoch):
            yield item

    async def _turn(self, ref: TurnRef, request: pb.RunTurnRequest) -> Turn | PastTurn:
        if request.attach_only or self._turns.began(ref, request.epoch):
            return await self._turns.attach(ref, request.epoch)
        self._drain.check()
        self._store.places.check(ref.session, made=request.workspace_made)
        prompt = prompt_with(request.prompt, request.direct_turns)
        caller, settings = self._caller(request.account), Settings.of(request.sandbox)
        work = TurnWork(caller, prompt, request.model, request.options, settings)
        return self._turns.start(
            ref, request.epoch, request.options, lambda turn: self._runner.run(turn, work)
        )

    def _caller(self, account: str) -> Caller:
        passport = current_passport()
        return Caller(passport.tenant, account, passport.principal, current_request_id())

    async def CancelTurn(self, request: pb.CancelTurnRequest, context: Context) -> pb.CancelTurnResponse:
        """See runner_service.proto."""
        turn = self._turns.find(TurnRef.parse(current_passport().tenant, request.turn))
        if turn is None or turn.log.finished:
            return pb.CancelTurnResponse(found=False)
        turn.cancelled.set()
        return pb.CancelTurnResponse(found=True)

    async def DecidePermission(
        self, request: pb.DecidePermissionRequest, context: Context
    ) -> pb.DecidePermissionResponse:
        """See runner_service.proto."""
        turn = self._turns.find(TurnRef.parse(current_passport().tenant, request.turn))
        found = turn is not None and turn.approvals.decide(request.decided)
        return pb.DecidePermissionResponse(found=found)

    async def PrepareSandbox(
        self, request: pb.PrepareSandboxRequest, context: Context
    ) -> pb.PrepareSandboxResponse:
        """See runner_service.proto."""
        session = self._session(request.session)
        self._drain.check()
        self._store.places.check(session, made=request.workspace_made)
        settings = Settings.of(request.sandbox)
        self._lifecycle.check(settings)
        work = TurnWork(self._caller(request.account), "", request.model, request.options, settings)
        if request.model:
            self._lifecycle.prepare(self._runner.wish(session, work))
        return pb.PrepareSandboxResponse()

    async def ListSandboxes(
        self, request: pb.ListSandboxesRequest, context: Context
    ) -> pb.ListSandboxesResponse:
        """See runner_service.proto."""
        tenant = current_passport().tenant
        found = sorted(self._lifecycle.sandboxes(), key=lambda sandbox: sandbox.sandbox_id)
        mine = [
            sandbox
            for sandbox in found
            if (sandbox.session is None or sandbox.session.tenant == tenant)
            and sandbox.sandbox_id > request.page_token
        ]
        size = request.page_size or 200
        return pb.ListSandboxesResponse(
            sandboxes=[self._sandbox(sandbox) for sandbox in mine[:size]],
            next_page_token=mine[size - 1].sandbox_id if len(mine) > size else "",
        )

    def _sandbox(self, sandbox: Sandbox) -> pb.Sandbox:
        now = Timestamp()
        now.GetCurrentTime()
        created = Timestamp()
        created.FromDatetime(sandbox.create_time)
        return pb.Sandbox(
            session=sandbox.session.name if sandbox.session else "",
            state=sandbox.state,
            create_time=created,
            # Its end is seen the moment it happens, so one that is here is alive now.
            last_heartbeat_time=now,
            memory_bytes=sandbox.agent.process.memory_bytes(),
            running_turn=sandbox.running_turn,
            implementation=self._implementation,
        )

    async def HibernateSandbox(
        self, request: pb.HibernateSandboxRequest, context: Context
    ) -> pb.HibernateSandboxResponse:
        """See runner_service.proto."""
        await self._lifecycle.hibernate(self._session(request.session))
        return pb.HibernateSandboxResponse()

    async def DeleteSandbox(
        self, request: pb.DeleteSandboxRequest, context: Context
    ) -> pb.DeleteSandboxResponse:
        """See runner_service.proto."""
        session = self._session(request.session)
        running = self._turns.running(session)
        if running is not None:
            running.cancelled.set()
            await running.over()
        async with self._lifecycle.without(session):
            await self._store.remove(session)
            self._turns.forget(session)
        return pb.DeleteSandboxResponse()

    def _session(self, name: str) -> SessionRef:
        log_fields(session=name)
        return SessionRef.parse(current_passport().tenant, name)
