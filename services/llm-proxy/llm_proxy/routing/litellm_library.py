"""LiteLLM, imported beside the service's start: it takes seconds, and the service must not wait for it."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
from typing import Any, Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from llm_proxy.upstreams import litellm_stream

# Four times what a slow machine takes.
_DEADLINE_SECONDS: Final = 60.0


class LitellmLibrary:
    """The library, once it is there. Types are `Any`: LiteLLM's own do not pass a strict checker."""

    def __init__(self, *, drop_params: bool = True) -> None:
        self._drop_params = drop_params
        self._module: Any = None
        self._loading: asyncio.Task[Any] | None = None

    def start(self) -> asyncio.Task[Any]:
        """Begin to import it, in a thread. The task ends when it is there."""
        if self._loading is None:
            self._loading = asyncio.create_task(asyncio.to_thread(_import, self._drop_params))
        return self._loading

    async def loaded(self) -> Any:
        """Return the module, waiting for it if need be. Failure SERVICE_UNAVAILABLE if it does not come."""
        if self._module is None:
            try:
                async with asyncio.timeout(_DEADLINE_SECONDS):
                    self._module = await asyncio.shield(self.start())
            except TimeoutError:
                raise Failure(
                    errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
                    "llm-proxy is still starting. Try again in a minute.",
                    service="llm-proxy",
                ) from None
        return self._module


def _import(drop_params: bool) -> Any:
    # Read at import: otherwise the price table is fetched from the network.
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    litellm: Any = importlib.import_module("litellm")
    litellm_stream.install()
    litellm.drop_params = drop_params
    litellm.use_chat_completions_url_for_anthropic_messages = True
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    # It logs requests at debug and keys' tails in errors; ours has what matters.
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return litellm
