"""A running router with what surrounds it, for tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
from pointsman.router.v1 import audit_service_pb2_grpc, key_service_pb2_grpc, router_service_pb2_grpc
from pointsman.system.v1 import system_service_pb2_grpc
from pydantic import SecretStr
from router.config import RouterConfig
from servicekit.testing import Keys, Started, free_port, passport_metadata
from support.router_peers import SessionPeer

API_KEY = "a-key-for-tests"


@dataclass
class House:
    """A running router, the scripted session service behind it, and stubs for both doors."""

    keys: Keys
    peer: SessionPeer
    started: Started

    @property
    def router(self) -> Any:
        return router_service_pb2_grpc.RouterServiceStub(self.started.channel)

    @property
    def system(self) -> Any:
        return system_service_pb2_grpc.SystemServiceStub(self.started.channel)

    @property
    def api_keys(self) -> Any:
        return key_service_pb2_grpc.KeyServiceStub(self.started.channel)

    @property
    def audit(self) -> Any:
        return audit_service_pb2_grpc.AuditServiceStub(self.started.channel)

    @property
    def channel(self) -> grpc.aio.Channel:
        return self.started.channel

    def caller(self, **fields: Any) -> Any:
        """Metadata of a caller, as the edge sends it on."""
        fields.setdefault("scopes", {"admin"})
        return passport_metadata(self.keys.signer("router"), **fields)


def configuration(keys: Keys, data: Path, session_address: str, **fields: Any) -> RouterConfig:
    """A router's configuration; services that are not given are not there."""
    fields.setdefault("address", f"127.0.0.1:{free_port()}")
    fields.setdefault("runner_address", f"127.0.0.1:{free_port()}")
    fields.setdefault("llm_proxy_address", f"127.0.0.1:{free_port()}")
    return RouterConfig(
        passport_keys=keys.jwks,
        passport_key=keys.directory,
        data_dir=data,
        session_address=session_address,
        api_key=SecretStr(API_KEY),
        **fields,
    )
