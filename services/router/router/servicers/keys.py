"""`pointsman.router.v1.KeyService`: API keys."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp
from pointsman.router.v1 import key_service_pb2, key_service_pb2_grpc
from servicekit.context import current_passport, log_fields
from servicekit.paging import Listing, size

from router.keys import KeyRing, WantedKey
from router.store.keys import KeyRow

_PAGE: Final = 50


class KeyServicer(key_service_pb2_grpc.KeyServiceServicer):
    """Gives out keys and takes them back."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    async def CreateKey(
        self, request: key_service_pb2.CreateKeyRequest, context: Any
    ) -> key_service_pb2.CreateKeyResponse:
        """Make a key."""
        key = request.key
        wanted = WantedKey(
            title=key.title,
            role=_role_name(key.role),
            scopes=tuple(key.scopes),
            account=key.account,
            tenant=key.tenant,
            expire_time=key.expire_time.ToMicroseconds() if key.HasField("expire_time") else 0,
        )
        row, secret = await self._ring.create(current_passport(), wanted, request.request_id)
        log_fields(resource=f"keys/{row.id}")
        return key_service_pb2.CreateKeyResponse(key=_key(row), secret=secret)

    async def ListKeys(
        self, request: key_service_pb2.ListKeysRequest, context: Any
    ) -> key_service_pb2.ListKeysResponse:
        """List keys, newest first."""
        caller, limit = current_passport(), size(request.page_size, _PAGE)
        listing = Listing("keys", caller.tenant, caller.account)
        after = listing.key(request.page_token)
        rows = await self._ring.page(caller, before=after, size=limit + 1)
        last = rows[limit - 1] if len(rows) > limit else None
        return key_service_pb2.ListKeysResponse(
            keys=[_key(row) for row in rows[:limit]],
            next_page_token=listing.token(last.create_time, last.id) if last else "",
        )

    async def RevokeKey(
        self, request: key_service_pb2.RevokeKeyRequest, context: Any
    ) -> key_service_pb2.RevokeKeyResponse:
        """Take a key back."""
        row = await self._ring.revoke(current_passport(), request.name.removeprefix("keys/"))
        return key_service_pb2.RevokeKeyResponse(key=_key(row))


def _key(row: KeyRow) -> key_service_pb2.Key:
    return key_service_pb2.Key(
        name=f"keys/{row.id}",
        title=row.title,
        role=key_service_pb2.KeyRole.Value(f"KEY_ROLE_{(row.role or 'unspecified').upper()}"),
        scopes=row.scopes.split(),
        account=row.account,
        tenant=row.tenant,
        creator=row.creator,
        create_time=_time(row.create_time),
        expire_time=_time(row.expire_time),
        revoke_time=_time(row.revoke_time),
    )


def _role_name(role: key_service_pb2.KeyRole.ValueType) -> str:
    name = key_service_pb2.KeyRole.Name(role).removeprefix("KEY_ROLE_").lower()
    return "" if name == "unspecified" else name


def _time(microseconds: int) -> Timestamp | None:
    if not microseconds:
        return None
    time = Timestamp()
    time.FromMicroseconds(microseconds)
    return time
