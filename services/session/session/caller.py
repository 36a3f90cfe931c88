"""On whose behalf something is done."""

from __future__ import annotations

from dataclasses import dataclass

from servicekit.passport import Passport


@dataclass(frozen=True)
class Caller:
    """Whose call it is, as far as the domain needs to know.

    `account` is the account that the credential is pinned to, None when it sees all of the tenant's.
    """

    tenant: str
    account: str | None
    principal: str

    @classmethod
    def of(cls, passport: Passport) -> Caller:
        """Return the caller that a passport speaks of."""
        account = None if passport.account is None else passport.account.lower()
        return cls(passport.tenant, account, passport.principal)
