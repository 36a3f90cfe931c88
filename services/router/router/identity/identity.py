"""Every way to say who you are, tried in turn."""

from __future__ import annotations

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure
from servicekit.passport import Passport

from router.identity.shared_key import SharedKey


class Identity:
    """Turns a credential into the passport of its holder."""

    def __init__(self, shared_key: SharedKey | None) -> None:
        self._shared_key = shared_key

    async def identify(self, credential: str) -> Passport:
        """Return the passport; raises Failure CREDENTIAL_INVALID for a credential nobody was given."""
        passport = self._shared_key.identify(credential) if self._shared_key else None
        if passport is None:
            raise Failure(
                errors_pb2.ERROR_REASON_CREDENTIAL_INVALID,
                "This API key is not one that was given out here. Check for missing characters, and that it "
                "belongs to this installation.",
            )
        return passport
