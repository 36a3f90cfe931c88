"""The service, put together."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp
from pointsman.llm.v1 import llm_service_pb2, llm_service_pb2_grpc, model_service_pb2, model_service_pb2_grpc
from servicekit.diagnostics import diagnostics
from servicekit.http.hosts import AllowedHosts
from servicekit.passport import PassportVerifier
from servicekit.serving import Drain, RunningServer, Servicer, serving

from llm_proxy.answer_cache import AnswerCache
from llm_proxy.catalogue import Catalogue
from llm_proxy.config import Config
from llm_proxy.configuration.models import read_models
from llm_proxy.configuration.secrets import Secrets
from llm_proxy.gateway import Gateway
from llm_proxy.http.identity import Identity
from llm_proxy.http.messages import MessagesRoutes
from llm_proxy.http.models import ModelsRoutes
from llm_proxy.http.serving import Routes, serving_http
from llm_proxy.ledger.database import open_database
from llm_proxy.ledger.ledger import Ledger
from llm_proxy.ledger.recovery import recovering
from llm_proxy.metrics import metrics
from llm_proxy.prices import Prices
from llm_proxy.routing.attempts import Attempts
from llm_proxy.routing.litellm_library import LitellmLibrary
from llm_proxy.routing.picker import Picker
from llm_proxy.servicers.llm import LlmServicer
from llm_proxy.servicers.models import ModelServicer
from llm_proxy.stopping import GRACE_SECONDS, Demand
from llm_proxy.tokens import SessionTokens
from llm_proxy.upstreams.anthropic import AnthropicUpstream
from llm_proxy.upstreams.demo import DemoUpstream
from llm_proxy.upstreams.translated import TranslatedUpstream

# Connections to one provider's host: far above what a machine's agents need at once.
_CONNECTIONS: Final = 512


@dataclass(frozen=True)
class RunningProxy(RunningServer):
    """Where both faces listen."""

    http_address: str = ""


@asynccontextmanager
async def app(config: Config, drain: Drain, *, environ: Mapping[str, str]) -> AsyncIterator[RunningProxy]:
    """Serve both faces while inside. Raises ConfigError for a models' file or a variable that is wrong.

    `environ` is where providers' keys and `os.environ/NAME` in the models' file are looked up. It is no part
    of the configuration, which others may see.
    """
    secrets = Secrets(environ)
    models = read_models(config.models_file, secrets)
    catalogue = Catalogue(models, await asyncio.to_thread(Prices.from_litellm), config.default_model)
    verifier = PassportVerifier.from_file(config.passport_keys)
    library = LitellmLibrary(drop_params=models.routing.drop_params)
    library.start()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(config.ledger_url))
        ledger = Ledger(database, models.money.budgets, _instance(config))
        await stack.enter_async_context(recovering(ledger))
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit_per_host=_CONNECTIONS, limit=0),
                # A provider's cookie would go along with another tenant's call.
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        )
        timeout = models.routing.timeout
        attempts = Attempts(
            catalogue,
            Picker(models, library, metrics()),
            models.routing,
            anthropic=AnthropicUpstream(session, secrets, timeout),
            translated=TranslatedUpstream(library, secrets, timeout),
            demo=DemoUpstream(),
        )
        cache = AnswerCache(models.routing.cache_seconds) if models.routing.cache else None
        gateway = Gateway(
            catalogue, ledger, attempts, metrics(), cache, unpriced_free=models.money.unpriced_free
        )
        tokens = SessionTokens(database)
        identity, demand = Identity(tokens, verifier), Demand(tokens, drain)
        routes = Routes(
            MessagesRoutes(gateway, identity),
            ModelsRoutes(catalogue, identity),
            demand,
            metrics(),
            AllowedHosts.parse(config.public_hosts),
        )
        http_address = await stack.enter_async_context(serving_http(routes, config.http_address, drain))
        server = await stack.enter_async_context(
            serving(
                service="llm-proxy",
                address=config.address,
                servicers=[
                    Servicer(
                        llm_service_pb2_grpc.add_LlmServiceServicer_to_server,
                        LlmServicer(gateway, catalogue, tokens),
                        llm_service_pb2.DESCRIPTOR.services_by_name["LlmService"],
                    ),
                    Servicer(
                        model_service_pb2_grpc.add_ModelServiceServicer_to_server,
                        ModelServicer(catalogue, database),
                        model_service_pb2.DESCRIPTOR.services_by_name["ModelService"],
                    ),
                    diagnostics("llm-proxy", config),
                ],
                verifier=verifier,
                drain=drain,
                grace=GRACE_SECONDS,
                settle=demand.settle,
            )
        )
        yield RunningProxy(server.address, server.port, server.drain, http_address)


def _instance(config: Config) -> str:
    """Return whose calls are closed as lost at the start: a file's are all of the one before."""
    if config.ledger_url.startswith("sqlite"):
        return "file"
    return f"{socket.gethostname()} {config.http_address}"
