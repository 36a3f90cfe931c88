"""`pointsman.router.v1.AuditService` and `AuditTrailService`: the audit log, out and in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from pointsman.router.v1 import audit_service_pb2, audit_service_pb2_grpc
from servicekit.access import granted
from servicekit.context import current_passport
from servicekit.paging import Listing, fitting, size

from router.store.audit import AuditSight, AuditStore

_PAGE: Final = 100


class AuditServicer(audit_service_pb2_grpc.AuditServiceServicer):
    """Reads the audit log."""

    def __init__(self, store: AuditStore) -> None:
        self._store = store

    async def ListAuditEntries(
        self, request: audit_service_pb2.ListAuditEntriesRequest, context: Any
    ) -> audit_service_pb2.ListAuditEntriesResponse:
        """List entries, newest first."""
        sight, limit = _sight(), size(request.page_size, _PAGE)
        listing = Listing("audit", sight, request.filter.SerializeToString(deterministic=True))
        after = listing.key(request.page_token)
        found = await self._store.page(sight, request.filter, before=after and after[0], size=limit + 1)
        page = fitting([entry for _, entry in found], limit)
        more = len(found) > len(page)
        return audit_service_pb2.ListAuditEntriesResponse(
            entries=page, next_page_token=listing.token(found[len(page) - 1][0]) if more else ""
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
