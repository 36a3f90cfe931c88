"""The router, put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc
from pointsman.llm.v1 import model_service_pb2
from pointsman.router.v1 import (
    audit_service_pb2,
    audit_service_pb2_grpc,
    key_service_pb2,
    key_service_pb2_grpc,
    router_service_pb2,
    router_service_pb2_grpc,
)
from pointsman.session.v1 import (
    account_service_pb2,
    session_service_pb2,
    template_service_pb2,
    workspace_service_pb2,
)
from pointsman.system.v1 import system_service_pb2, system_service_pb2_grpc
from servicekit.audit import audit_trail
from servicekit.channels import service_channel
from servicekit.diagnostics import diagnostics
from servicekit.drain import Drain
from servicekit.passport import PassportSigner, PassportVerifier
from servicekit.serving import RunningServer, Servicer, serving

from router.admission.admission import Admission
from router.config import RouterConfig
from router.context import gather
from router.conversations import Conversations
from router.identity.callers import Callers
from router.identity.identity import Identity
from router.identity.key_lookup import KeyLookup
from router.identity.oidc import Tokens
from router.identity.shared_key import SharedKey
from router.identity.stored_keys import StoredKeys
from router.keys import KeyRing
from router.models import Models
from router.plan import Planner
from router.servicers.audit import AuditServicer, AuditTrailServicer
from router.servicers.authorization import AuthorizationServicer
from router.servicers.keys import KeyServicer
from router.servicers.router import RouterServicer
from router.servicers.system import SystemServicer
from router.settings import load_settings
from router.store.audit import AuditStore
from router.store.database import database_url, opened
from router.store.keys import KeyStore
from router.store.migrations.upgrade import upgrade
from router.triage.classifier import Classifier
from router.triage.triage import Triage
from router.turns import Turns

NAME: Final = "router"
# The edge asks the router what there is to call, so it answers for all that are public.
PUBLIC_SERVICES: Final = (
    router_service_pb2.DESCRIPTOR.services_by_name["RouterService"].full_name,
    key_service_pb2.DESCRIPTOR.services_by_name["KeyService"].full_name,
    audit_service_pb2.DESCRIPTOR.services_by_name["AuditService"].full_name,
    session_service_pb2.DESCRIPTOR.services_by_name["SessionService"].full_name,
    workspace_service_pb2.DESCRIPTOR.services_by_name["WorkspaceService"].full_name,
    template_service_pb2.DESCRIPTOR.services_by_name["TemplateService"].full_name,
    account_service_pb2.DESCRIPTOR.services_by_name["AccountService"].full_name,
    model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
    system_service_pb2.DESCRIPTOR.services_by_name["SystemService"].full_name,
)


@asynccontextmanager
async def app(config: RouterConfig, drain: Drain) -> AsyncIterator[RunningServer]:
    """Serve the router while inside."""
    settings = load_settings(config.settings_file)
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
        turns = Turns(channels["session"], signer)
        database = await stack.enter_async_context(opened(database_url(config.database_url, config.data_dir)))
        await upgrade(database)
        context = await stack.enter_async_context(gather.opened(settings.context))
        small_model = settings.triage.model
        classifier = Classifier(small_model, Models(channels["llm-proxy"], signer)) if small_model else None
        planner = Planner(context, Triage(settings.triage, classifier), turns)
        admission = Admission(settings.limits)
        audit_store = AuditStore(database)
        audit = await stack.enter_async_context(audit_trail(audit_store.append, prompts=config.audit_prompts))
        key_store = KeyStore(database)
        stored_keys = StoredKeys(KeyLookup(key_store))
        shared_key = SharedKey(config.api_key.get_secret_value()) if config.api_key else None
        identity = Identity(shared_key, stored_keys, Tokens(settings.issuers))
        callers = Callers(identity, admission, audit)
        servicers = [
            Servicer(
                router_service_pb2_grpc.add_RouterServiceServicer_to_server,
                RouterServicer(turns, Conversations(turns), planner, admission, drain),
                router_service_pb2.DESCRIPTOR.services_by_name["RouterService"],
            ),
            Servicer(
                key_service_pb2_grpc.add_KeyServiceServicer_to_server,
                KeyServicer(KeyRing(key_store, stored_keys)),
                key_service_pb2.DESCRIPTOR.services_by_name["KeyService"],
            ),
            Servicer(
                audit_service_pb2_grpc.add_AuditServiceServicer_to_server,
                AuditServicer(audit_store),
                audit_service_pb2.DESCRIPTOR.services_by_name["AuditService"],
            ),
            Servicer(
                audit_service_pb2_grpc.add_AuditTrailServiceServicer_to_server,
                AuditTrailServicer(audit_store),
                audit_service_pb2.DESCRIPTOR.services_by_name["AuditTrailService"],
            ),
            Servicer(
                system_service_pb2_grpc.add_SystemServiceServicer_to_server,
                SystemServicer(channels),
                system_service_pb2.DESCRIPTOR.services_by_name["SystemService"],
            ),
            Servicer(
                external_auth_pb2_grpc.add_AuthorizationServicer_to_server,
                AuthorizationServicer(callers, signer),
                external_auth_pb2.DESCRIPTOR.services_by_name["Authorization"],
            ),
            diagnostics(NAME, config),
        ]
        running = await stack.enter_async_context(
            serving(
                service=NAME,
                address=config.address,
                servicers=servicers,
                verifier=verifier,
                credentials=callers,
                drain=drain,
                reflected=PUBLIC_SERVICES,
                audit=audit,
            )
        )
        yield running
