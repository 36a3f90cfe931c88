"""What a service tells our own services of itself."""

import os
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from pointsman.system.v1 import diagnostics_service_pb2, diagnostics_service_pb2_grpc
from pydantic import Field, SecretStr
from servicekit.config import ServiceConfig
from servicekit.diagnostics import REDACTED, diagnostics
from servicekit.testing import passport_metadata, serve


class DemoConfig(ServiceConfig):
    address: str = Field(default="127.0.0.1:0", validation_alias="POINTSMAN_DEMO_ADDRESS")
    workers: int = Field(default=0, validation_alias="DEMO_WORKERS")
    hidden: SecretStr = Field(default=SecretStr("hunter2"), validation_alias="DEMO_HIDDEN")
    api_key: str = Field(default="hunter2", validation_alias="DEMO_API_KEY")
    unset: SecretStr = Field(default=SecretStr(""), validation_alias="DEMO_UNSET")
    providers: dict[str, dict[str, str]] = Field(
        default={"demo": {"url": "http://demo.example", "api_key": "hunter2"}},
        validation_alias="DEMO_PROVIDERS",
    )
    database: str = Field(
        default="postgresql://user:hunter2@db.example/pointsman", validation_alias="DATABASE_URL"
    )


async def test_a_service_tells_its_configuration_without_secrets_and_its_process(kit: Any) -> None:
    config = DemoConfig(passport_keys=Path("/k/jwks.json"), passport_key=Path("/k"))
    async with serve(diagnostics("demo", config), keys=kit.keys) as started:
        stub = diagnostics_service_pb2_grpc.DiagnosticsServiceStub(started.channel)
        request = diagnostics_service_pb2.GetDiagnosticsRequest()
        metadata = passport_metadata(kit.keys.signer("router"), scopes={"internal"})
        told = (await stub.GetDiagnostics(request, metadata=metadata, timeout=60)).diagnostics
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetDiagnostics(request, metadata=kit.caller, timeout=60)
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert (told.service, told.pid) == ("demo", os.getpid())
    assert told.memory_bytes > 1_000_000
    assert told.uptime.ToTimedelta().total_seconds() > 0
    assert told.version
    configuration = dict(told.configuration)
    providers = configuration.pop("DEMO_PROVIDERS")
    assert "http://demo.example" in providers
    assert "hunter2" not in providers
    assert configuration == {
        "POINTSMAN_DEMO_ADDRESS": "127.0.0.1:0",
        "POINTSMAN_PASSPORT_KEYS": "/k/jwks.json",
        "POINTSMAN_PASSPORT_KEY": "/k",
        "POINTSMAN_DATA_DIR": "data",
        "POINTSMAN_LOG_LEVEL": "info",
        "POINTSMAN_METRICS_ADDRESS": "",
        "POINTSMAN_PUBLIC_HOSTS": "",
        "DEMO_WORKERS": "0",
        "DEMO_HIDDEN": REDACTED,
        "DEMO_API_KEY": REDACTED,
        "DEMO_UNSET": "",
        "DATABASE_URL": f"postgresql://{REDACTED}@db.example/pointsman",
    }
