"""Every way to say who you are, tried in turn."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure
from servicekit.passport import Passport

from router.identity.oidc import Tokens
from router.identity.shared_key import SharedKey
from router.identity.stored_keys import StoredKeys

_PASSPORT_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Identified:
    """Who it is, and how long a passport may say so."""

    passport: Passport
    ttl: timedelta


class Identity:
    """Turns a credential into the passport of its holder."""

    def __init__(self, shared_key: SharedKey | None, stored: StoredKeys, tokens: Tokens) -> None:
        self._shared_key = shared_key
        self._stored = stored
        self._tokens = tokens

    async def identify(self, credential: str) -> Identified:
        """Return the passport; raises Failure CREDENTIAL_INVALID for a credential nobody was given.

        Raises CREDENTIAL_EXPIRED, CREDENTIAL_REVOKED and SCOPE_MISSING, too.
        """
        passport = self._shared_key.identify(credential) if self._shared_key else None
        if passport is None:
            passport = await self._stored.identify(credential)
        if passport is not None:
            return Identified(passport, timedelta(seconds=_PASSPORT_SECONDS))
        token = await self._tokens.identify(credential)
        if token is not None:
            passport, left = token
            # In whole seconds up to a minute, so that a token's passports can be reused.
            return Identified(passport, timedelta(seconds=min(_PASSPORT_SECONDS, max(1, int(left)))))
        raise Failure(
            errors_pb2.ERROR_REASON_CREDENTIAL_INVALID,
            "This API key is not one that was given out here. Check for missing characters, and that it "
            "belongs to this installation.",
        )
