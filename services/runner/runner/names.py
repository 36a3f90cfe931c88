"""Which session and which turn: names from the wire, bound to the tenant of the passport."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class SessionRef:
    """A session of a tenant. Two tenants never share one, whatever ids they name."""

    tenant: str
    session_id: str

    @classmethod
    def parse(cls, tenant: str, name: str) -> SessionRef:
        """Read `sessions/{uuid}`, which validation has checked."""
        return cls(tenant, name.removeprefix("sessions/"))

    @property
    def name(self) -> str:
        """`sessions/{uuid}`."""
        return f"sessions/{self.session_id}"

    @property
    def folder(self) -> str:
        """`{hash of the tenant}/{uuid}`: safe as a path whatever a tenant is called."""
        return f"{tenant_folder(self.tenant)}/{self.session_id}"


@dataclass(frozen=True)
class TurnRef:
    """A turn of a session."""

    session: SessionRef
    turn_id: str

    @classmethod
    def parse(cls, tenant: str, name: str) -> TurnRef:
        """Read `sessions/{uuid}/turns/{uuid}`, which validation has checked."""
        _, session_id, _, turn_id = name.split("/")
        return cls(SessionRef(tenant, session_id), turn_id)

    @property
    def name(self) -> str:
        """`sessions/{uuid}/turns/{uuid}`."""
        return f"{self.session.name}/turns/{self.turn_id}"


def tenant_folder(tenant: str) -> str:
    """Return the folder name of a tenant: a hash, because a tenant's name may hold anything."""
    return hashlib.sha256(tenant.encode()).hexdigest()[:32]
