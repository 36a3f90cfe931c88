"""Client side: a call made while another is served goes on behalf of the same caller."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import grpc
import grpc.aio

from servicekit.metadata import served_metadata
from servicekit.passport import PASSPORT_HEADER, PassportSigner

Continue = Callable[[Any, Any], Awaitable[Any]]


def forwarding(signer: PassportSigner) -> list[Any]:
    """Return the interceptor that adds a passport and the request id to unary calls that bring no passport.

    Streams bring their own, from `served_metadata`: an interceptor would be a layer around every message.
    """
    return [_Forward(signer)]


class _Forward(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
    def __init__(self, signer: PassportSigner) -> None:
        self._signer = signer

    async def intercept_unary_unary(
        self, continuation: Continue, details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await continuation(self._with_passport(details), request)

    def _with_passport(self, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        brought = tuple(details.metadata or ())
        added = served_metadata(self._signer)
        if not added or any(key == PASSPORT_HEADER for key, _ in brought):
            return details
        metadata = grpc.aio.Metadata(*cast(Any, (*brought, *added)))
        return grpc.aio.ClientCallDetails(
            details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
        )
