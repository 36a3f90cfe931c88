"""A scripted llm-proxy on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from pointsman.errors.v1 import errors_pb2
from pointsman.llm.v1 import llm_service_pb2 as llm
from pointsman.llm.v1 import llm_service_pb2_grpc
from pointsman.session.v1 import turn_pb2
from servicekit.errors import Failure
from servicekit.serving import Servicer


class ScriptedModels(llm_service_pb2_grpc.LlmServiceServicer):
    """An llm-proxy that knows two models and answers with the prompt's words."""

    def __init__(self) -> None:
        self.known = {"demo/offline", "demo/other"}
        self.requests: list[llm.CreateMessageRequest] = []
        self.release = asyncio.Event()
        self.thinks_first = False

    def as_servicer(self) -> Servicer:
        """Return what `servicekit.testing.serve` takes."""
        return Servicer(
            llm_service_pb2_grpc.add_LlmServiceServicer_to_server,
            self,
            llm.DESCRIPTOR.services_by_name["LlmService"],
        )

    async def ResolveModel(self, request: llm.ResolveModelRequest, _context: Any) -> llm.ResolveModelResponse:
        model = request.model or "demo/offline"
        if model not in self.known:
            names = ", ".join(sorted(self.known))
            raise Failure(
                errors_pb2.ERROR_REASON_MODEL_UNKNOWN,
                f"There is no model {model}; there are {names}.",
                model=model,
            )
        return llm.ResolveModelResponse(model=model)

    async def CreateMessage(
        self, request: llm.CreateMessageRequest, _context: Any
    ) -> AsyncIterator[llm.CreateMessageResponse]:
        self.requests.append(request)
        prompt = request.messages[-1].content[0].text
        if self.thinks_first:
            yield llm.CreateMessageResponse(thinking_delta="let me see")
        if prompt.startswith("wait"):
            yield llm.CreateMessageResponse(text_delta="so far")
            await self.release.wait()
        if prompt.startswith("much "):
            for _ in range(int(prompt.split()[1])):
                yield llm.CreateMessageResponse(text_delta="ä" * 65536)
        if prompt.startswith("escalate") and request.tools:
            call = llm.ToolCall(id="c1", name=request.tools[0].name)
            call.input.update({"reason": "needs files"})
            yield llm.CreateMessageResponse(tool_call=call)
        else:
            yield llm.CreateMessageResponse(thinking_delta="hm")
            for word in ("You", " said: ", prompt):
                yield llm.CreateMessageResponse(text_delta=word)
        if prompt.startswith("break off"):
            raise Failure(errors_pb2.ERROR_REASON_PROVIDER_RESPONSE_INVALID, "It broke off.")
        # "stop at max_tokens" stops there.
        stop = prompt.removeprefix("stop at ") if prompt.startswith("stop at ") else "end_turn"
        spent = turn_pb2.Usage(input_tokens=3, output_tokens=4, model_calls=1)
        done = llm.MessageFinished(stop_reason=stop, usage=spent, model=request.model)
        yield llm.CreateMessageResponse(finished=done)

    async def CountTokens(self, request: llm.CountTokensRequest, _context: Any) -> llm.CountTokensResponse:
        return llm.CountTokensResponse(input_tokens=1)

    async def IssueSessionToken(
        self, request: llm.IssueSessionTokenRequest, _context: Any
    ) -> llm.IssueSessionTokenResponse:
        return llm.IssueSessionTokenResponse(token="token")

    async def RevokeSessionToken(
        self, request: llm.RevokeSessionTokenRequest, _context: Any
    ) -> llm.RevokeSessionTokenResponse:
        return llm.RevokeSessionTokenResponse()
