"""What a way to ask a model has to offer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from llm_proxy.configuration.models import Deployment
from llm_proxy.messages.request import MessagesRequest


class Upstream(Protocol):
    """A way to ask a model.

    `open` sends the request and is entered when the answer has begun. It gives the bytes of the answer: a
    stream of Anthropic's events, cut anywhere, or for a request without `stream` one JSON body, in one piece.
    Entering and each step raise ProviderFailure, and nothing else. Leaving early closes the connection, so
    that the provider stops writing. Cancellation passes through.
    """

    def open(
        self, deployment: Deployment, model: str, request: MessagesRequest
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Ask `model`, a resolved name, at the deployment."""

    async def count_tokens(self, deployment: Deployment, model: str, request: MessagesRequest) -> int:
        """Return how many tokens the request has. Raises ProviderFailure."""


def upstream_model(deployment: Deployment, model: str) -> str:
    """Return the model's name as LiteLLM knows it: the deployment's, or for a wildcard what it stands for."""
    if "*" not in deployment.model:
        return deployment.model
    prefix, _, suffix = deployment.group.partition("*")
    asked = model[len(prefix) : len(model) - len(suffix)] if suffix else model[len(prefix) :]
    return deployment.model.replace("*", asked, 1)
