"""JWTs of other issuers: OIDC access tokens, or anything that is signed with published keys."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import jwt
from pointsman.errors.v1 import errors_pb2
from servicekit.access import ROLES, SCOPES
from servicekit.errors import Failure
from servicekit.passport import Passport

from router.identity.issuers import IssuerSettings
from router.identity.jwks import KeySet

_FORM: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
# A token that says that it begins a little later: clocks of machines that keep time differ by less. It ends
# when it says, without any grace.
_SKEW_SECONDS: Final = 10
# To be told apart from keys and from other issuers' subjects in logs.
_LONGEST_SUBJECT: Final = 128


class Tokens:
    """Knows the tokens of the configured issuers."""

    def __init__(self, issuers: Sequence[IssuerSettings]) -> None:
        self._issuers = {issuer.issuer: (issuer, KeySet(issuer.issuer, issuer.jwks)) for issuer in issuers}

    async def identify(self, credential: str) -> tuple[Passport, float] | None:
        """Return the passport of the token's subject and how many seconds the token has left.

        None for what is no JWT. Raises Failure CREDENTIAL_INVALID or CREDENTIAL_EXPIRED for one that is not
        good, and SCOPE_MISSING for a good one without a role here.
        """
        if not self._issuers or not _FORM.fullmatch(credential):
            return None
        settings, key = await self._signed_by(credential)
        try:
            claims = jwt.decode(
                credential,
                key,
                algorithms=list(settings.algorithms),
                audience=settings.audience,
                issuer=settings.issuer,
                leeway=_SKEW_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
            left = float(claims["exp"]) - time.time()
        except jwt.ExpiredSignatureError:
            raise _expired() from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
            raise _invalid("its signature, issuer, audience or times are not right") from error
        if not left > 0:
            raise _expired()
        return _passport(claims, settings), left

    async def _signed_by(self, credential: str) -> tuple[IssuerSettings, jwt.PyJWK]:
        """Return the issuer that a token names and its key, both still to be proved."""
        try:
            header = jwt.get_unverified_header(credential)
            claimed = jwt.decode(credential, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError) as error:
            raise _invalid("it is not a JWT") from error
        known = self._issuers.get(str(claimed.get("iss", "")))
        if known is None:
            raise _invalid("its issuer is not one that this installation trusts")
        settings, keys = known
        key = await keys.key(str(header.get("kid", "")))
        if key is None:
            raise _invalid("its issuer has no such key")
        return settings, key


def _passport(claims: Mapping[str, Any], settings: IssuerSettings) -> Passport:
    tenant = settings.tenant or claims.get(settings.tenant_claim)
    if not isinstance(tenant, str) or not _NAME.fullmatch(tenant):
        raise _invalid(f"its claim {settings.tenant_claim!r} does not name a tenant")
    account = claims.get(settings.account_claim)
    if account is not None and not (isinstance(account, str) and _NAME.fullmatch(account.lower())):
        # A pin that cannot be read must not mean that there is none.
        raise _invalid(f"its claim {settings.account_claim!r} does not name an account")
    subject = str(claims["sub"])[:_LONGEST_SUBJECT]
    return Passport(
        tenant=tenant,
        account=None if account is None else account.lower(),
        principal=f"user:{subject}",
        scopes=_scopes(claims, settings),
        credential="",
    )


def _scopes(claims: Mapping[str, Any], settings: IssuerSettings) -> frozenset[str]:
    """Return the roles and scopes of ours that the claims name; others' are others' business."""
    roles = _names(claims.get(settings.roles_claim)) & (ROLES.keys() - {"owner"})
    scopes = _names(claims.get(settings.scopes_claim)) & (SCOPES - {"tenants.manage"})
    ours = frozenset({*roles, *scopes, *([settings.default_role] if not roles | scopes else [])}) - {""}
    if not ours:
        raise Failure(
            errors_pb2.ERROR_REASON_SCOPE_MISSING,
            f"The token is good, but its claims {settings.roles_claim!r} and {settings.scopes_claim!r} name "
            "no role and no scope of this installation.",
            required="viewer",
        )
    return ours


def _names(claim: Any) -> set[str]:
    if isinstance(claim, str):
        return set(claim.split())
    return {name for name in claim if isinstance(name, str)} if isinstance(claim, list) else set()


def _expired() -> Failure:
    return Failure(errors_pb2.ERROR_REASON_CREDENTIAL_EXPIRED, "The token has expired. Get a fresh one.")


def _invalid(why: str) -> Failure:
    return Failure(errors_pb2.ERROR_REASON_CREDENTIAL_INVALID, f"The token is not valid here: {why}.")
