"""API keys that were made here: `pm_<id>_<secret>`, kept as a hash of the secret."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure
from servicekit.passport import Passport

from router.identity.key_lookup import KeyLookup

_FORM: Final = re.compile(r"pm_([a-z0-9]{1,32})_([A-Za-z0-9_-]{43})")
_ID_LETTERS: Final = "abcdefghijkmnpqrstuvwxyz23456789"
_ID_LENGTH: Final = 12


@dataclass(frozen=True)
class Secret:
    """A new key's id, the text that callers send, and what is kept of it."""

    id: str
    text: str
    digest: bytes


def new_secret() -> Secret:
    """Make one, with 256 random bits."""
    key_id = "".join(secrets.choice(_ID_LETTERS) for _ in range(_ID_LENGTH))
    secret = secrets.token_urlsafe(32)
    return Secret(key_id, f"pm_{key_id}_{secret}", _digest(secret))


class StoredKeys:
    """Knows the keys of the store."""

    def __init__(self, lookup: KeyLookup, *, clock: Callable[[], float] = time.time) -> None:
        self._lookup = lookup
        self._clock = clock

    async def identify(self, credential: str) -> Passport | None:
        """Return the passport of the key's holder, None for what is no such key.

        Raises Failure CREDENTIAL_EXPIRED or CREDENTIAL_REVOKED, which only the holder of the secret learns.
        """
        form = _FORM.fullmatch(credential)
        if form is None:
            return None
        row = await self._lookup.find(form[1])
        if row is None or not hmac.compare_digest(row.digest, _digest(form[2])):
            return None
        if row.revoke_time:
            raise Failure(
                errors_pb2.ERROR_REASON_CREDENTIAL_REVOKED,
                f"The API key {row.id} was revoked. Ask an administrator for a new one.",
            )
        if row.expire_time and row.expire_time <= self._clock() * 1_000_000:
            raise Failure(
                errors_pb2.ERROR_REASON_CREDENTIAL_EXPIRED,
                f"The API key {row.id} has expired. Ask an administrator for a new one.",
            )
        return Passport(
            tenant=row.tenant,
            account=row.account or None,
            principal=f"key:{row.id}",
            scopes=frozenset({*row.scopes.split(), *([row.role] if row.role else [])}),
            credential=row.id,
        )

    def forget(self, key_id: str) -> None:
        """Look the key up again at its next use."""
        self._lookup.forget(key_id)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
