"""Who may call what: one table, and what is not in it is refused.

A credential has scopes, directly or through its role. Every public method needs one scope; a method without
a row of its own needs its service's, which is the strongest one there, so that a new method is never open
by oversight.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final

from pointsman.errors.v1 import errors_pb2

from servicekit.errors import Failure
from servicekit.passport import INTERNAL_SCOPE, Passport


class Access(Enum):
    """What it takes to call a method."""

    OPEN = "open"
    """Nothing, not even a passport."""
    PUBLIC = "public"
    """Any valid passport."""
    INTERNAL = INTERNAL_SCOPE
    """To be one of our own services."""

    SESSIONS_READ = "sessions.read"
    """Look at sessions, turns, events and files."""
    SESSIONS_WRITE = "sessions.write"
    """Make, change and delete sessions and files."""
    TURNS_RUN = "turns.run"
    """Run turns, steer them, decide what agents ask."""
    ACCOUNTS_MANAGE = "accounts.manage"
    """Set the limits of accounts."""
    MODELS_READ = "models.read"
    """See which models there are."""
    USAGE_READ = "usage.read"
    """See what was used."""
    SYSTEM_READ = "system.read"
    """See the installation's insides."""
    AUDIT_READ = "audit.read"
    """Read the audit log."""
    KEYS_READ = "keys.read"
    """See which keys of the tenant there are, never their secrets."""
    KEYS_MANAGE = "keys.manage"
    """Give out keys of the tenant and take them back."""
    TENANTS_MANAGE = "tenants.manage"
    """Give out keys of other tenants."""


_CONDITIONS: Final = frozenset({Access.OPEN, Access.PUBLIC, Access.INTERNAL})
SCOPES: Final = frozenset(access.value for access in Access if access not in _CONDITIONS)
"""Every scope that a credential from outside can have."""

_VIEWER: Final = frozenset({Access.SESSIONS_READ, Access.MODELS_READ, Access.USAGE_READ})
_MEMBER: Final = _VIEWER | {Access.SESSIONS_WRITE, Access.TURNS_RUN}
_OPERATOR: Final = _MEMBER | {Access.ACCOUNTS_MANAGE, Access.AUDIT_READ}
_ADMIN: Final = _OPERATOR | {Access.KEYS_READ, Access.KEYS_MANAGE}
ROLES: Final[Mapping[str, frozenset[str]]] = {
    role: frozenset(access.value for access in accesses)
    for role, accesses in {
        "viewer": _VIEWER,
        "member": _MEMBER,
        "operator": _OPERATOR,
        "admin": _ADMIN,
        # The installation is its owner's; all other roles are within a tenant.
        "owner": _ADMIN | {Access.TENANTS_MANAGE, Access.SYSTEM_READ},
    }.items()
}
"""The scopes of each role. A passport names roles and scopes alike."""

_ROUTER: Final = "pointsman.router.v1.RouterService"
_SESSION: Final = "pointsman.session.v1.SessionService"
_WORKSPACE: Final = "pointsman.session.v1.WorkspaceService"
_TEMPLATE: Final = "pointsman.session.v1.TemplateService"
_ACCOUNT: Final = "pointsman.session.v1.AccountService"

ACCESS: Final[Mapping[str, Access]] = {
    _ROUTER: Access.TURNS_RUN,
    f"{_ROUTER}/GetQuota": Access.USAGE_READ,
    _SESSION: Access.SESSIONS_WRITE,
    f"{_SESSION}/GetSession": Access.SESSIONS_READ,
    f"{_SESSION}/ListSessions": Access.SESSIONS_READ,
    f"{_SESSION}/ListTurns": Access.SESSIONS_READ,
    f"{_SESSION}/GetTurn": Access.SESSIONS_READ,
    f"{_SESSION}/ListEvents": Access.SESSIONS_READ,
    f"{_SESSION}/WatchEvents": Access.SESSIONS_READ,
    _WORKSPACE: Access.SESSIONS_WRITE,
    f"{_WORKSPACE}/ListFiles": Access.SESSIONS_READ,
    f"{_WORKSPACE}/ReadFile": Access.SESSIONS_READ,
    f"{_WORKSPACE}/DiffWorkspace": Access.SESSIONS_READ,
    f"{_WORKSPACE}/ListSnapshots": Access.SESSIONS_READ,
    _TEMPLATE: Access.SESSIONS_WRITE,
    f"{_TEMPLATE}/GetTemplate": Access.SESSIONS_READ,
    f"{_TEMPLATE}/ListTemplates": Access.SESSIONS_READ,
    _ACCOUNT: Access.ACCOUNTS_MANAGE,
    f"{_ACCOUNT}/GetAccount": Access.SESSIONS_READ,
    f"{_ACCOUNT}/ListAccounts": Access.SESSIONS_READ,
    "pointsman.llm.v1.ModelService": Access.MODELS_READ,
    "pointsman.llm.v1.ModelService/GetUsage": Access.USAGE_READ,
    "pointsman.router.v1.KeyService": Access.KEYS_MANAGE,
    "pointsman.router.v1.KeyService/ListKeys": Access.KEYS_READ,
    "pointsman.router.v1.AuditService": Access.AUDIT_READ,
    "pointsman.system.v1.SystemService": Access.SYSTEM_READ,
    "pointsman.session.v1.TurnService": Access.INTERNAL,
    "pointsman.session.v1.TranscriptService": Access.INTERNAL,
    "pointsman.runner.v1.RunnerService": Access.INTERNAL,
    "pointsman.llm.v1.LlmService": Access.INTERNAL,
    "pointsman.router.v1.AuditTrailService": Access.INTERNAL,
    # Every service tells our own ones of itself, and nobody else.
    "pointsman.system.v1.DiagnosticsService": Access.INTERNAL,
    # Probes and tools that have no credential.
    "pointsman.system.v1.SystemService/GetHealth": Access.OPEN,
    "grpc.health.v1.Health": Access.OPEN,
    "grpc.reflection.v1alpha.ServerReflection": Access.OPEN,
    # The edge asks here before there is a passport.
    "envoy.service.auth.v3.Authorization": Access.OPEN,
}

CHANGING: Final = frozenset(
    {Access.SESSIONS_WRITE, Access.TURNS_RUN, Access.ACCOUNTS_MANAGE, Access.KEYS_MANAGE}
)
"""Methods that need one of these change something, and are in the audit log."""


def needed(access: Mapping[str, Access], path: str) -> Access | None:
    """Return the row for `/package.Service/Method`: the method's own, else its service's, else None."""
    method = path.removeprefix("/")
    return access.get(method) or access.get(method.partition("/")[0])


def granted(scopes: Iterable[str]) -> frozenset[str]:
    """Return all scopes that roles and scopes together stand for."""
    named = frozenset(scopes)
    return (named & SCOPES).union(*(ROLES[name] for name in named if name in ROLES))


def check_scope(access: Access | None, passport: Passport, method: str) -> None:
    """Raise Failure SCOPE_MISSING unless the passport's scopes allow the method. None: in no row, refused."""
    # Our own services ask on behalf of callers that were checked where they came in.
    trusted = access in (Access.OPEN, Access.PUBLIC) or INTERNAL_SCOPE in passport.scopes
    if access is not None and (trusted or access.value in granted(passport.scopes)):
        return
    if access is None or access is Access.INTERNAL:
        raise Failure(
            errors_pb2.ERROR_REASON_SCOPE_MISSING,
            f"{method} is only for Pointsman's own services.",
            required=INTERNAL_SCOPE,
        )
    raise Failure(
        errors_pb2.ERROR_REASON_SCOPE_MISSING,
        f"{method} takes the scope {access.value}, which this credential does not have. Use one with the "
        f"role {_least_role(access)}, or ask an administrator.",
        required=access.value,
    )


def _least_role(access: Access) -> str:
    return next(role for role, scopes in ROLES.items() if access.value in scopes)
