"""Giving out API keys and taking them back."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from pointsman.errors.v1 import errors_pb2
from servicekit.access import SCOPES, granted
from servicekit.errors import Failure
from servicekit.passport import Passport

from router.identity.stored_keys import StoredKeys, new_secret
from router.store.keys import KeyRow, KeyStore, Sight

MICROSECONDS = 1_000_000


@dataclass(frozen=True)
class WantedKey:
    """What is asked for. Times are microseconds since 1970, 0 for never; empty texts are defaults."""

    title: str
    role: str
    scopes: tuple[str, ...]
    account: str
    tenant: str
    expire_time: int


class KeyRing:
    """The keys of tenants, as their administrators see them."""

    def __init__(
        self, store: KeyStore, cached: StoredKeys, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._cached = cached
        self._clock = clock

    async def create(self, caller: Passport, wanted: WantedKey, request_id: str) -> tuple[KeyRow, str]:
        """Make a key; return it and its secret, which is empty when this request made it before.

        Raises Failure SCOPE_MISSING for more than the caller may, ACCOUNT_PINNED, INVALID_FIELD, and
        REQUEST_ID_REUSED for the same id with another wish.
        """
        now = self._now()
        wanted = replace(wanted, expire_time=await self._ending(caller, wanted.expire_time))
        checked = _checked(caller, wanted, now)
        secret = new_secret()
        row = KeyRow(
            id=secret.id,
            digest=secret.digest,
            tenant=checked.tenant,
            title=checked.title,
            role=checked.role,
            scopes=" ".join(checked.scopes),
            account=checked.account,
            creator=caller.principal,
            creator_tenant=caller.tenant,
            request_id=_scoped(caller, request_id or str(uuid.uuid4())),
            create_time=now,
            expire_time=checked.expire_time,
        )
        before = await self._store.insert(row)
        if before is None:
            # Somebody may have tried this id before it was a key's.
            self._cached.forget(row.id)
            return row, secret.text
        if _wish(before) != _wish(row):
            raise Failure(
                errors_pb2.ERROR_REASON_REQUEST_ID_REUSED,
                f"The request id {request_id} made another key before. Use a new one.",
            )
        return before, ""

    async def page(self, caller: Passport, *, before: tuple[int, str] | None, size: int) -> Sequence[KeyRow]:
        """Return the keys that the caller sees, newest first."""
        return await self._store.page(_sight(caller), before=before, size=size)

    async def revoke(self, caller: Passport, key_id: str) -> KeyRow:
        """Take a key back; raises Failure KEY_NOT_FOUND for one that the caller does not see."""
        row = await self._store.revoke(_sight(caller), key_id, self._now())
        if row is None:
            raise Failure(errors_pb2.ERROR_REASON_KEY_NOT_FOUND, f"This tenant has no key keys/{key_id}.")
        self._cached.forget(key_id)
        return row

    async def _ending(self, caller: Passport, wanted: int) -> int:
        """Return when a new key ends: as wanted, and at the latest with the key that makes it.

        Raises Failure INVALID_FIELD for a later time. A JWT proves who somebody is, and sets no limit.
        """
        makers = await self._store.by_ids([caller.credential]) if caller.credential else {}
        ends = makers[caller.credential].expire_time if caller.credential in makers else 0
        if ends and wanted > ends:
            given = datetime.fromtimestamp(ends / MICROSECONDS, UTC)
            rule = f"must be at most {given:%Y-%m-%dT%H:%M:%SZ}, when the key that makes it expires"
            raise _field("key.expire_time", f"{rule}; leave it out to take that time")
        return wanted or ends

    def _now(self) -> int:
        return int(self._clock() * MICROSECONDS)


def _checked(caller: Passport, wanted: WantedKey, now: int) -> WantedKey:
    """Return the wish with its defaults, within what the caller may give away."""
    if "\0" in wanted.title:
        raise _field("key.title", "must not contain the character NUL")
    unknown = [scope for scope in wanted.scopes if scope not in SCOPES]
    if unknown:
        raise _field("key.scopes", f"{unknown[0]!r} is none; there are {', '.join(sorted(SCOPES))}")
    if wanted.expire_time and wanted.expire_time <= now:
        given = datetime.fromtimestamp(wanted.expire_time / MICROSECONDS, UTC)
        raise _field("key.expire_time", f"{given:%Y-%m-%dT%H:%M:%SZ} has passed")
    complete = replace(
        wanted,
        role=wanted.role or ("" if wanted.scopes else "member"),
        scopes=tuple(sorted(wanted.scopes)),
        account=wanted.account.lower() or caller.account or "",
        tenant=wanted.tenant or caller.tenant,
    )
    _check_gift(caller, complete)
    return complete


def _check_gift(caller: Passport, key: WantedKey) -> None:
    """Raise a Failure when the key could do more than its maker."""
    theirs = granted(caller.scopes)
    missing = granted({key.role, *key.scopes} - {""}) - theirs
    if key.tenant != caller.tenant:
        missing |= {"tenants.manage"} - theirs
    if missing:
        least = min(missing)
        raise Failure(
            errors_pb2.ERROR_REASON_SCOPE_MISSING,
            f"Nobody gives away more than they have: the new key would have {least}, and this credential "
            "has not.",
            required=least,
        )
    if caller.account is not None and (key.account != caller.account or key.tenant != caller.tenant):
        raise Failure(
            errors_pb2.ERROR_REASON_ACCOUNT_PINNED,
            "This credential is pinned to one account of its tenant and makes keys of that account only.",
        )


def _scoped(caller: Passport, request_id: str) -> str:
    """Return what a request is found by: a caller that sees one account only meets none of the others'."""
    return request_id if caller.account is None else f"{caller.account}/{request_id}"


def _wish(row: KeyRow) -> tuple[object, ...]:
    return (row.tenant, row.title, row.role, row.scopes, row.account, row.expire_time, row.creator)


def _sight(caller: Passport) -> Sight:
    return Sight(caller.tenant, given="tenants.manage" in granted(caller.scopes), account=caller.account)


def _field(path: str, problem: str) -> Failure:
    return Failure(errors_pb2.ERROR_REASON_INVALID_FIELD, f"{path}: {problem}", fields=[(path, problem)])
