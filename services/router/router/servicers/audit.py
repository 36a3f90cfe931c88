"""`pointsman.router.v1.AuditService` and `AuditTrailService`: the audit log, out and in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from pointsman.router.v1 import audit_service_pb2, audit_service_pb2_grpc
from servicekit.access import granted
from servicekit.context import current_passport

from router.paging import page_token, place_of
from router.store.audit import AuditSight, AuditStore

_PAGE: Final = 100
_LISTING: Final = "audit"


class AuditServicer(audit_service_pb2_grpc.AuditServiceServicer):
    """Reads the audit log."""

    def __init__(self, store: AuditStore) -> None:
        self._store = store

    async def ListAuditEntries(
        self, request: audit_service_pb2.ListAuditEntriesRequest, context: Any
    ) -> audit_service_pb2.ListAuditEntriesResponse:
        """List entries, newest first."""
        size = request.page_size or _PAGE
        place = place_of(request.page_token, _LISTING, int)
        before = None if place is None else int(place[0])
        found = await self._store.page(_sight(), request.filter, before=before, size=size + 1)
        more = len(found) > size
        return audit_service_pb2.ListAuditEntriesResponse(
            entries=[entry for _, entry in found[:size]],
            next_page_token=page_token(_LISTING, found[size - 1][0]) if more else "",
        )

    async def ExportAuditEntries(
        self, request: audit_service_pb2.ExportAuditEntriesRequest, context: Any
    ) -> AsyncIterator[audit_service_pb2.ExportAuditEntriesResponse]:
        """Send all entries, oldest first."""
        async for entry in self._store.export(_sight(), request.filter):
            yield audit_service_pb2.ExportAuditEntriesResponse(entry=entry)


class AuditTrailServicer(audit_service_pb2_grpc.AuditTrailServiceServicer):
    """Takes entries from the other services."""

    def __init__(self, store: AuditStore) -> None:
        self._store = store

    async def RecordEntries(
        self, request: audit_service_pb2.RecordEntriesRequest, context: Any
    ) -> audit_service_pb2.RecordEntriesResponse:
        """Keep them."""
        await self._store.append(request.entries)
        return audit_service_pb2.RecordEntriesResponse()


def _sight() -> AuditSight:
    caller = current_passport()
    return AuditSight(
        caller.tenant, strangers="tenants.manage" in granted(caller.scopes), account=caller.account
    )
