"""The services that this one calls: what it asks of them, with deadlines, and their failures as `Failure`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pointsman.llm.v1 import llm_service_pb2, llm_service_pb2_grpc
from pointsman.runner.v1 import runner_service_pb2, runner_service_pb2_grpc
from pointsman.session.v1 import event_pb2, session_service_pb2
from servicekit.channels import CallMetadata, internal_metadata
from servicekit.errors import Failure
from servicekit.passport import PassportSigner

# A small answer from a service on this machine or the next.
_QUICK_SECONDS: Final = 5.0
_HEALTH_SECONDS: Final = 1.0
WORKSPACE_SECONDS: Final = 60.0
"""Restoring or removing a whole workspace: some seconds for 40,000 files."""
# Two gigabytes and 200,000 files take a minute on a slow disk, behind others that copy.
_COPY_SECONDS: Final = 300.0

# More than a machine runs.
_SANDBOXES: Final = 1000


@dataclass(frozen=True)
class Party:
    """On whose behalf a peer is called."""

    tenant: str
    account: str
    principal: str
    request_id: str


@contextmanager
def failures_of(service: str) -> Iterator[None]:
    """Turn gRPC's errors into failures."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise Failure.from_rpc_error(error, service) from error


class Runner:
    """The runner service."""

    def __init__(self, channel: grpc.aio.Channel, signer: PassportSigner) -> None:
        self._channel = channel
        self.stub = runner_service_pb2_grpc.RunnerServiceStub(channel)
        self._signer = signer

    def metadata(self, party: Party) -> CallMetadata:
        """Return what a call on behalf of this party carries."""
        return internal_metadata(
            self._signer,
            tenant=party.tenant,
            account=party.account,
            principal=party.principal,
            request_id=party.request_id,
        )

    async def reachable(self) -> None:
        """Return once there is a connection."""
        await self._channel.channel_ready()

    async def stops(self) -> bool:
        """Say whether the runner says that it is stopping. One that is out of reach says nothing."""
        try:
            answer = await health_pb2_grpc.HealthStub(self._channel).Check(
                health_pb2.HealthCheckRequest(), timeout=_HEALTH_SECONDS
            )
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.NOT_SERVING)

    async def run_turn(
        self, party: Party, request: runner_service_pb2.RunTurnRequest, seconds: float
    ) -> AsyncIterator[runner_service_pb2.RunTurnResponse]:
        """Run or follow a turn. Going away does not stop it."""
        with failures_of("runner"):
            call = self.stub.RunTurn(request, metadata=self.metadata(party), timeout=seconds)
            try:
                async for item in call:
                    yield item
            finally:
                call.cancel()

    async def cancel_turn(self, party: Party, turn: str, epoch: int) -> bool:
        """Stop a turn; tell whether it was there."""
        request = runner_service_pb2.CancelTurnRequest(turn=turn, epoch=epoch)
        with failures_of("runner"):
            answer = await self.stub.CancelTurn(
                request, metadata=self.metadata(party), timeout=_QUICK_SECONDS
            )
        return answer.found

    async def decide(self, party: Party, turn: str, decided: event_pb2.PermissionDecided) -> bool:
        """Hand over a decision; tell whether the agent waited for it."""
        request = runner_service_pb2.DecidePermissionRequest(turn=turn, decided=decided)
        with failures_of("runner"):
            answer = await self.stub.DecidePermission(
                request, metadata=self.metadata(party), timeout=_QUICK_SECONDS
            )
        return answer.found

    async def prepare(self, party: Party, request: runner_service_pb2.PrepareSandboxRequest) -> None:
        """Begin to boot a session's sandbox."""
        with failures_of("runner"):
            await self.stub.PrepareSandbox(request, metadata=self.metadata(party), timeout=_QUICK_SECONDS)

    async def sandboxes(self, party: Party) -> dict[str, session_service_pb2.SandboxStatus]:
        """Return the tenant's sandboxes by the name of their session."""
        found: dict[str, session_service_pb2.SandboxStatus] = {}
        request = runner_service_pb2.ListSandboxesRequest(page_size=_SANDBOXES)
        with failures_of("runner"):
            answer = await self.stub.ListSandboxes(
                request, metadata=self.metadata(party), timeout=_QUICK_SECONDS
            )
        for sandbox in answer.sandboxes:
            if sandbox.session:
                found[sandbox.session] = session_service_pb2.SandboxStatus(
                    state=sandbox.state, last_heartbeat_time=sandbox.last_heartbeat_time
                )
        return found

    async def delete_sandbox(self, party: Party, session: str) -> None:
        """Remove a session's sandbox and workspace."""
        request = runner_service_pb2.DeleteSandboxRequest(session=session)
        with failures_of("runner"):
            await self.stub.DeleteSandbox(request, metadata=self.metadata(party), timeout=WORKSPACE_SECONDS)

    async def create_snapshot(
        self,
        party: Party,
        session: str,
        snapshot_id: str,
        source_snapshot_id: str = "",
        *,
        owned: bool = False,
        max_bytes: int = 0,
        workspace_made: bool = False,
    ) -> int:
        """Keep a session's workspace as it is, and return its bytes; or keep another snapshot once more.

        One that is `owned` goes with the session. `max_bytes` is what its files may have, 0 for any.
        """
        request = runner_service_pb2.CreateSnapshotRequest(
            session=session,
            snapshot_id=snapshot_id,
            source_snapshot_id=source_snapshot_id,
            owned=owned,
            max_bytes=max_bytes,
            workspace_made=workspace_made,
        )
        with failures_of("runner"):
            # A snapshot that is kept once more is not copied.
            seconds = _QUICK_SECONDS if source_snapshot_id else _COPY_SECONDS
            answer = await self.stub.CreateSnapshot(request, metadata=self.metadata(party), timeout=seconds)
        return answer.size_bytes

    async def restore_snapshot(self, party: Party, session: str, snapshot_id: str) -> None:
        """Make a session's workspace what a snapshot holds."""
        request = runner_service_pb2.RestoreSnapshotRequest(session=session, snapshot_id=snapshot_id)
        with failures_of("runner"):
            await self.stub.RestoreSnapshot(request, metadata=self.metadata(party), timeout=WORKSPACE_SECONDS)

    async def delete_snapshot(self, party: Party, snapshot_id: str, session_id: str = "") -> None:
        """Remove a snapshot, and the note that it is the session's."""
        request = runner_service_pb2.DeleteSnapshotRequest(snapshot_id=snapshot_id, session_id=session_id)
        with failures_of("runner"):
            await self.stub.DeleteSnapshot(request, metadata=self.metadata(party), timeout=WORKSPACE_SECONDS)


class Models:
    """The llm-proxy service."""

    def __init__(self, channel: grpc.aio.Channel, signer: PassportSigner) -> None:
        self._stub = llm_service_pb2_grpc.LlmServiceStub(channel)
        self._signer = signer

    def _metadata(self, party: Party) -> CallMetadata:
        return internal_metadata(
            self._signer,
            tenant=party.tenant,
            account=party.account,
            principal=party.principal,
            request_id=party.request_id,
        )

    async def resolve(self, party: Party, model: str) -> str:
        """Return the model that a name stands for, empty for the default; Failure MODEL_UNKNOWN."""
        request = llm_service_pb2.ResolveModelRequest(model=model)
        with failures_of("llm-proxy"):
            answer = await self._stub.ResolveModel(
                request, metadata=self._metadata(party), timeout=_QUICK_SECONDS
            )
        return answer.model

    async def create_message(
        self, party: Party, request: llm_service_pb2.CreateMessageRequest, seconds: float
    ) -> AsyncIterator[llm_service_pb2.CreateMessageResponse]:
        """Ask a model. Going away breaks the call off."""
        with failures_of("llm-proxy"):
            call = self._stub.CreateMessage(request, metadata=self._metadata(party), timeout=seconds)
            try:
                async for piece in call:
                    yield piece
            finally:
                call.cancel()
