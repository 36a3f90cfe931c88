"""Client side: a call made while another is served goes on behalf of the same caller."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import grpc
import grpc.aio

from servicekit.context import current_call
from servicekit.metadata import internal_metadata
from servicekit.passport import PASSPORT_HEADER, PassportSigner

Continue = Callable[[Any, Any], Awaitable[Any]]


def forwarding(signer: PassportSigner) -> list[Any]:
    """Return interceptors that add a passport and the request id to calls that bring no passport."""
    # gRPC sorts interceptors by their one base class, so each kind of call needs a class.
    return [_ForwardUnary(signer), _ForwardStream(signer)]


def _with_passport(signer: PassportSigner, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
    call = current_call()
    brought = tuple(details.metadata or ())
    if call is None or call.passport is None or any(key == PASSPORT_HEADER for key, _ in brought):
        return details
    added = internal_metadata(
        signer,
        tenant=call.passport.tenant,
        account=call.passport.account,
        principal=call.passport.principal,
        request_id=call.request_id,
    )
    metadata = grpc.aio.Metadata(*cast(Any, (*brought, *added)))
    return grpc.aio.ClientCallDetails(
        details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
    )


class _ForwardUnary(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
    def __init__(self, signer: PassportSigner) -> None:
        self._signer = signer

    async def intercept_unary_unary(
        self, continuation: Continue, details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await continuation(_with_passport(self._signer, details), request)


class _ForwardStream(grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[type-arg]
    def __init__(self, signer: PassportSigner) -> None:
        self._signer = signer

    async def intercept_unary_stream(  # type: ignore[override]
        self, continuation: Continue, details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await continuation(_with_passport(self._signer, details), request)
