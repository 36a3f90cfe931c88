"""Which scope each service or method needs: one table, and what is not in it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from pointsman.errors.v1 import errors_pb2

from servicekit.errors import Failure
from servicekit.passport import INTERNAL_SCOPE, Passport

ADMIN_SCOPE: Final = "admin"


class Access(Enum):
    """Who may call a service."""

    OPEN = "open"
    """Anybody, without a passport."""
    PUBLIC = "public"
    """Anybody with a valid passport."""
    ADMIN = "admin"
    """An operator: a valid passport with the scope `admin`."""
    INTERNAL = "internal"
    """Our own services: a valid passport with the scope `internal`."""


ACCESS: Final[Mapping[str, Access]] = {
    "pointsman.router.v1.RouterService": Access.PUBLIC,
    "pointsman.session.v1.SessionService": Access.PUBLIC,
    "pointsman.session.v1.WorkspaceService": Access.PUBLIC,
    "pointsman.llm.v1.ModelService": Access.PUBLIC,
    "pointsman.system.v1.SystemService": Access.PUBLIC,
    "pointsman.session.v1.TurnService": Access.INTERNAL,
    "pointsman.session.v1.TranscriptService": Access.INTERNAL,
    "pointsman.runner.v1.RunnerService": Access.INTERNAL,
    "pointsman.llm.v1.LlmService": Access.INTERNAL,
    # Every service tells our own ones of itself, and nobody else.
    "pointsman.system.v1.DiagnosticsService": Access.INTERNAL,
    # Probes and tools that have no credential.
    "pointsman.system.v1.SystemService/GetHealth": Access.OPEN,
    # Shows paths and settings of the whole installation.
    "pointsman.system.v1.SystemService/GetDebug": Access.ADMIN,
    "grpc.health.v1.Health": Access.OPEN,
    "grpc.reflection.v1alpha.ServerReflection": Access.OPEN,
    # The edge asks here before there is a passport.
    "envoy.service.auth.v3.Authorization": Access.OPEN,
}


def needed(access: Mapping[str, Access], path: str) -> Access | None:
    """Return the row for `/package.Service/Method`: the method's own, else its service's, else None."""
    method = path.removeprefix("/")
    return access.get(method) or access.get(method.partition("/")[0])


def check_scope(access: Access | None, passport: Passport, method: str) -> None:
    """Raise Failure SCOPE_MISSING unless the passport's scopes allow the method. None: in no row, refused."""
    if access is Access.OPEN or access is Access.PUBLIC:
        return
    if access is Access.INTERNAL and INTERNAL_SCOPE in passport.scopes:
        return
    if access is Access.ADMIN and passport.scopes & {ADMIN_SCOPE, INTERNAL_SCOPE}:
        return
    if access is Access.ADMIN:
        raise Failure(
            errors_pb2.ERROR_REASON_SCOPE_MISSING,
            f"{method} is only for operators; use a credential with the scope {ADMIN_SCOPE}.",
            required=ADMIN_SCOPE,
        )
    raise Failure(
        errors_pb2.ERROR_REASON_SCOPE_MISSING,
        f"{method} is only for Pointsman's own services.",
        required=INTERNAL_SCOPE,
    )
