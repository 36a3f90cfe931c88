"""The metadata that calls to our own services carry."""

from __future__ import annotations

from servicekit.context import current_call
from servicekit.passport import (
    INTERNAL_SCOPE,
    PASSPORT_HEADER,
    REQUEST_ID_HEADER,
    Passport,
    PassportSigner,
)

CallMetadata = tuple[tuple[str, str], ...]


def call_metadata(passport_token: str, request_id: str) -> CallMetadata:
    """Return the metadata of a call with this passport, as the edge would send it."""
    return ((PASSPORT_HEADER, passport_token), (REQUEST_ID_HEADER, request_id))


def internal_metadata(
    signer: PassportSigner, *, tenant: str, account: str | None, principal: str, request_id: str
) -> CallMetadata:
    """Return the metadata of a call that one of our services makes on behalf of a tenant."""
    passport = Passport(
        tenant=tenant, account=account, principal=principal, scopes=frozenset({INTERNAL_SCOPE})
    )
    return call_metadata(signer.sign(passport), request_id)


def served_metadata(signer: PassportSigner) -> CallMetadata:
    """Return the metadata of a call that is made for the caller who is being served; none for nobody.

    It has a service's passport for the same tenant, account and principal, and the same request id.
    """
    call = current_call()
    if call is None or call.passport is None:
        return ()
    return internal_metadata(
        signer,
        tenant=call.passport.tenant,
        account=call.passport.account,
        principal=call.passport.principal,
        request_id=call.request_id,
    )
