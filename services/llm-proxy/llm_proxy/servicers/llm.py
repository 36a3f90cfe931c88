"""LlmService: calls to models for our own services, and the tokens of agents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from decimal import Decimal
from typing import Any

import grpc.aio
from pointsman.llm.v1 import llm_service_pb2 as pb
from pointsman.llm.v1 import llm_service_pb2_grpc
from servicekit.context import account_of, current_passport, log_fields

from llm_proxy.caller import Caller
from llm_proxy.catalogue import Catalogue
from llm_proxy.gateway import Chunk, Done, Gateway
from llm_proxy.ledger.money import pico
from llm_proxy.ledger.scopes import Payer
from llm_proxy.servicers.answers import PieceReader, finished
from llm_proxy.servicers.requests import counting_request, messages_request
from llm_proxy.tokens import LONGEST_SECONDS, SessionTokens

_Context = grpc.aio.ServicerContext[Any, Any]


class LlmServicer(llm_service_pb2_grpc.LlmServiceServicer):
    """Serves LlmService."""

    def __init__(self, gateway: Gateway, catalogue: Catalogue, tokens: SessionTokens) -> None:
        self._gateway = gateway
        self._catalogue = catalogue
        self._tokens = tokens

    async def CreateMessage(
        self, request: pb.CreateMessageRequest, context: _Context
    ) -> AsyncIterator[pb.CreateMessageResponse]:
        """Ask a model."""
        caller = Caller(_payer(request.scope))
        reader = PieceReader()
        most = self._catalogue.price(self._catalogue.resolve(request.model)).max_output
        asked = messages_request(request, most)
        async with aclosing(self._gateway.ask(caller, asked)) as steps:  # type: ignore[type-var]
            async for step in steps:
                if isinstance(step, Chunk):
                    for piece in reader.feed(step.data):
                        yield piece
                elif isinstance(step, Done):
                    yield finished(reader.stop_reason, step.report)

    async def CountTokens(self, request: pb.CountTokensRequest, context: _Context) -> pb.CountTokensResponse:
        """Count a request's tokens."""
        caller = Caller(_payer(pb.BillingScope()))
        count = await self._gateway.count_tokens(counting_request(request), caller)
        return pb.CountTokensResponse(input_tokens=count)

    async def IssueSessionToken(
        self, request: pb.IssueSessionTokenRequest, context: _Context
    ) -> pb.IssueSessionTokenResponse:
        """Give out a token."""
        models = [self._catalogue.resolve(model) for model in request.models]
        limited = request.HasField("max_budget_usd")
        ttl = request.ttl.ToTimedelta().total_seconds() if request.HasField("ttl") else LONGEST_SECONDS
        token, known = await self._tokens.issue(
            _payer(request.scope),
            current_passport().principal,
            models=models,
            budget=pico(Decimal(str(request.max_budget_usd))) if limited else None,
            ttl=ttl,
        )
        response = pb.IssueSessionTokenResponse(token=token)
        response.expire_time.FromMilliseconds(int(known.expire_time * 1000))
        return response

    async def RevokeSessionToken(
        self, request: pb.RevokeSessionTokenRequest, context: _Context
    ) -> pb.RevokeSessionTokenResponse:
        """Take tokens back."""
        log_fields(session=request.session, turn=request.turn)
        await self._tokens.revoke(current_passport().tenant, request.session, request.turn)
        return pb.RevokeSessionTokenResponse()

    async def ResolveModel(
        self, request: pb.ResolveModelRequest, context: _Context
    ) -> pb.ResolveModelResponse:
        """Resolve a model's name."""
        return pb.ResolveModelResponse(model=self._catalogue.resolve(request.model))


def _payer(scope: pb.BillingScope) -> Payer:
    log_fields(session=scope.session, turn=scope.turn)
    return Payer(current_passport().tenant, account_of(scope.account), scope.session, scope.turn)
