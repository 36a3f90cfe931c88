"""The router, put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc
from pointsman.llm.v1 import model_service_pb2
from pointsman.router.v1 import router_service_pb2, router_service_pb2_grpc
from pointsman.session.v1 import session_service_pb2, workspace_service_pb2
from pointsman.system.v1 import system_service_pb2, system_service_pb2_grpc
from servicekit.channels import service_channel
from servicekit.drain import Drain
from servicekit.passport import PassportSigner, PassportVerifier
from servicekit.serving import RunningServer, Servicer, serving

from router.config import RouterConfig
from router.conversations import Conversations
from router.identity.identity import Identity
from router.identity.shared_key import SharedKey
from router.servicers.authorization import AuthorizationServicer
from router.servicers.router import RouterServicer
from router.servicers.system import SystemServicer
from router.turns import Turns

NAME: Final = "router"
# The edge asks the router what there is to call, so it answers for all that are public.
PUBLIC_SERVICES: Final = (
    router_service_pb2.DESCRIPTOR.services_by_name["RouterService"].full_name,
    session_service_pb2.DESCRIPTOR.services_by_name["SessionService"].full_name,
    workspace_service_pb2.DESCRIPTOR.services_by_name["WorkspaceService"].full_name,
    model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
    system_service_pb2.DESCRIPTOR.services_by_name["SystemService"].full_name,
)


@asynccontextmanager
async def app(config: RouterConfig, drain: Drain) -> AsyncIterator[RunningServer]:
    """Serve the router while inside."""
    signer = PassportSigner.from_directory(config.passport_key, NAME)
    verifier = PassportVerifier.from_file(config.passport_keys)
    addresses = {
        NAME: config.address,
        "session": config.session_address,
        "runner": config.runner_address,
        "llm-proxy": config.llm_proxy_address,
    }
    async with AsyncExitStack() as stack:
        channels = {
            name: await stack.enter_async_context(service_channel(address, signer=signer))
            for name, address in addresses.items()
        }
        turns = Turns(channels["session"])
        identity = Identity(SharedKey(config.api_key.get_secret_value()) if config.api_key else None)
        servicers = [
            Servicer(
                router_service_pb2_grpc.add_RouterServiceServicer_to_server,
                RouterServicer(turns, Conversations(turns), drain),
                router_service_pb2.DESCRIPTOR.services_by_name["RouterService"],
            ),
            Servicer(
                system_service_pb2_grpc.add_SystemServiceServicer_to_server,
                SystemServicer(channels),
                system_service_pb2.DESCRIPTOR.services_by_name["SystemService"],
            ),
            Servicer(
                external_auth_pb2_grpc.add_AuthorizationServicer_to_server,
                AuthorizationServicer(identity, signer),
                external_auth_pb2.DESCRIPTOR.services_by_name["Authorization"],
            ),
        ]
        running = await stack.enter_async_context(
            serving(
                service=NAME,
                address=config.address,
                servicers=servicers,
                verifier=verifier,
                drain=drain,
                reflected=PUBLIC_SERVICES,
            )
        )
        yield running
