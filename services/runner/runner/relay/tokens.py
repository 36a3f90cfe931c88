"""Session tokens: what the relay shows llm-proxy on behalf of one turn. They never enter a sandbox."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

import grpc.aio
import structlog
from google.protobuf.duration_pb2 import Duration
from pointsman.llm.v1 import llm_service_pb2 as pb
from pointsman.llm.v1 import llm_service_pb2_grpc as rpc
from servicekit.channels import CallMetadata
from servicekit.errors import Failure

from runner.names import TurnRef

_CALL_SECONDS: Final = 10.0
TOKEN_TTL: Final = timedelta(hours=1)
"""The longest that llm-proxy gives out; a longer turn gets another."""

_log = structlog.get_logger("runner.tokens")


async def default_model(stub: rpc.LlmServiceAsyncStub, metadata: CallMetadata) -> str:
    """Return the model that turns run on when nobody names one."""
    try:
        answer = await stub.ResolveModel(pb.ResolveModelRequest(), timeout=_CALL_SECONDS, metadata=metadata)
    except grpc.aio.AioRpcError as error:
        raise Failure.from_rpc_error(error, service="llm-proxy") from error
    return answer.model


class SessionTokens:
    """Asks llm-proxy for tokens and takes them back."""

    def __init__(self, stub: rpc.LlmServiceAsyncStub) -> None:
        self._stub = stub

    async def issue(
        self,
        turn: TurnRef,
        account: str,
        *,
        models: list[str],
        max_budget_usd: float | None,
        metadata: Callable[[], CallMetadata],
    ) -> str:
        """Return a token that lives for TOKEN_TTL or until it is revoked."""
        ttl = Duration()
        ttl.FromTimedelta(TOKEN_TTL)
        request = pb.IssueSessionTokenRequest(
            scope=pb.BillingScope(account=account, session=turn.session.name, turn=turn.name),
            models=models,
            max_budget_usd=max_budget_usd,
            ttl=ttl,
        )
        try:
            # An llm-proxy that starts again is worth the wait: without a token no agent is of use.
            answer = await self._stub.IssueSessionToken(
                request, timeout=_CALL_SECONDS, metadata=metadata(), wait_for_ready=True
            )
        except grpc.aio.AioRpcError as error:
            raise Failure.from_rpc_error(error, service="llm-proxy") from error
        return answer.token

    async def revoke(self, turn: TurnRef, *, metadata: Callable[[], CallMetadata]) -> None:
        """Take a turn's tokens back. A token that cannot be taken back now expires by itself."""
        request = pb.RevokeSessionTokenRequest(session=turn.session.name, turn=turn.name)
        try:
            await self._stub.RevokeSessionToken(request, timeout=_CALL_SECONDS, metadata=metadata())
        except grpc.aio.AioRpcError as error:
            _log.warning("token_not_revoked", turn=turn.name, code=error.code().name)
