"""`pointsman.system.v1.DiagnosticsService`, which every service has: its configuration and process."""

from __future__ import annotations

import os
import re
import time
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from pointsman.system.v1 import (
    diagnostics_service_pb2,
    diagnostics_service_pb2_grpc,
    system_service_pb2,
)
from pydantic import SecretBytes, SecretStr

from servicekit.config import ServiceConfig
from servicekit.logs import looks_secret, without_secrets
from servicekit.serving import Servicer

REDACTED: Final = "[REDACTED]"
_STATM: Final = Path("/proc/self/statm")
# `postgresql://user:password@host/name`.
_USER_OF_URL: Final = re.compile(r"(?<=://)[^/@\s]+(?=@)")


class DiagnosticsServicer(diagnostics_service_pb2_grpc.DiagnosticsServiceServicer):
    """Tells of this process; `uptime` counts from when the servicer was made."""

    def __init__(self, service: str, config: ServiceConfig) -> None:
        self._service = service
        self._configuration = shown(config)
        self._started = time.monotonic()

    async def GetDiagnostics(  # noqa: N802 - gRPC's spelling
        self, request: diagnostics_service_pb2.GetDiagnosticsRequest, context: Any
    ) -> diagnostics_service_pb2.GetDiagnosticsResponse:
        """Return the insides as they are now."""
        diagnostics = system_service_pb2.Diagnostics(
            service=self._service,
            configuration=self._configuration,
            pid=os.getpid(),
            memory_bytes=_resident_bytes(),
            version=version("pointsman-servicekit"),
        )
        diagnostics.uptime.FromTimedelta(timedelta(seconds=time.monotonic() - self._started))
        return diagnostics_service_pb2.GetDiagnosticsResponse(diagnostics=diagnostics)


def diagnostics(service: str, config: ServiceConfig) -> Servicer:
    """Return the service, ready for `serving`."""
    return Servicer(
        add=diagnostics_service_pb2_grpc.add_DiagnosticsServiceServicer_to_server,
        instance=DiagnosticsServicer(service, config),
        descriptor=diagnostics_service_pb2.DESCRIPTOR.services_by_name["DiagnosticsService"],
    )


def shown(config: ServiceConfig) -> dict[str, str]:
    """Return variables and values, with secrets redacted: by type, by name, and in the user part of URLs."""
    configuration = {}
    for name, field in type(config).model_fields.items():
        variable = str(field.validation_alias or name.upper())
        configuration[variable] = _shown(variable, getattr(config, name))
    return configuration


def _shown(variable: str, value: Any) -> str:
    # A path is where a secret lies, not the secret.
    if isinstance(value, Path):
        return str(value)
    if not value and not isinstance(value, (bool, int, float)):
        return ""
    if isinstance(value, (SecretStr, SecretBytes)) or (isinstance(value, str) and looks_secret(variable)):
        return REDACTED
    return _USER_OF_URL.sub(REDACTED, str(without_secrets("", value)))


def _resident_bytes() -> int:
    pages = int(_STATM.read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
