"""The demo model as an upstream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from llm_proxy.configuration.models import Deployment
from llm_proxy.demo_model.streaming import count_tokens, stream
from llm_proxy.messages.assemble import Assembler
from llm_proxy.messages.request import MessagesRequest


class DemoUpstream:
    """Answers by rules, in this process. Fails never."""

    @asynccontextmanager
    async def open(
        self, deployment: Deployment, model: str, request: MessagesRequest
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """See `Upstream.open`."""
        yield _stream(request, model) if request.stream else _whole(request, model)

    async def count_tokens(self, deployment: Deployment, model: str, request: MessagesRequest) -> int:
        """See `Upstream.count_tokens`."""
        return count_tokens(request.size)


async def _stream(request: MessagesRequest, model: str) -> AsyncIterator[bytes]:
    for piece in stream(request.body, request.size, model):
        yield piece
        # Each piece gets onto the wire by itself, as a provider's would.
        await asyncio.sleep(0)


async def _whole(request: MessagesRequest, model: str) -> AsyncIterator[bytes]:
    assembler = Assembler()
    for piece in stream(request.body, request.size, model):
        assembler.feed(piece)
    yield json.dumps(assembler.message()).encode()
