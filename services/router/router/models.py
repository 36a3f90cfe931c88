"""llm-proxy, as the router uses it: a small model's word on where a prompt goes."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import grpc.aio
from pointsman.llm.v1 import llm_service_pb2, llm_service_pb2_grpc
from servicekit.channels import served_metadata
from servicekit.errors import Failure
from servicekit.passport import PassportSigner


class Models:
    """Calls llm-proxy on behalf of the caller that is being served."""

    def __init__(self, channel: grpc.aio.Channel, signer: PassportSigner) -> None:
        self._signer = signer
        self._stub = llm_service_pb2_grpc.LlmServiceStub(channel)

    async def create_message(
        self, request: llm_service_pb2.CreateMessageRequest, timeout: float
    ) -> AsyncGenerator[llm_service_pb2.CreateMessageResponse, None]:
        """Yield the pieces of the answer; raises the Failure that llm-proxy or the network has."""
        call = self._stub.CreateMessage(request, metadata=served_metadata(self._signer), timeout=timeout)
        try:
            async for piece in call:
                yield piece
        except grpc.aio.AioRpcError as error:
            raise Failure.from_rpc_error(error, "llm-proxy") from None
        finally:
            call.cancel()
