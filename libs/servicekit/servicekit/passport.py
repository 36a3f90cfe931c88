"""The passport: a signed, short-lived statement of who a call acts for. Every service verifies it itself.

A JWT signed with Ed25519. `iss` and `kid` name the service that signed it; `jwks.json` has everybody's
public keys.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm
from pointsman.errors.v1 import errors_pb2

from servicekit.config import ConfigError
from servicekit.errors import Failure

PASSPORT_HEADER: Final = "x-pointsman-passport"
REQUEST_ID_HEADER: Final = "x-request-id"

INTERNAL_SCOPE: Final = "internal"
SERVICE_ISSUERS: Final = frozenset({"router", "session", "runner", "llm-proxy", "supervisor"})
"""Who may sign passports with the scope `internal`."""

_ALGORITHM: Final = "EdDSA"
_MAKE_KEYS: Final = "make run makes the keys, in containers the service `keys` of compose.yaml"
_AUDIENCE: Final = "pointsman"
_REQUIRED_CLAIMS: Final = ("iss", "aud", "iat", "exp", "sub", "tenant", "scopes")
# Clocks of machines that keep time differ by less.
_LEEWAY_SECONDS: Final = 5.0
# One entry is about 1 KB and stands for one caller in one minute.
_CACHE_ENTRIES: Final = 4096


@dataclass(frozen=True)
class Passport:
    """Who a call acts for.

    `account` is the account that the credential is pinned to, None when it is free to choose.
    `credential` is the id of the API key, for the audit log, empty when there is none.
    """

    tenant: str
    account: str | None
    principal: str
    scopes: frozenset[str]
    credential: str = ""


class PassportSigner:
    """Signs passports as one issuer."""

    def __init__(
        self, private_key_pem: str | bytes, issuer: str, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.issuer = issuer
        key = OKPAlgorithm().prepare_key(private_key_pem)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError(f"the key of {issuer} is not an Ed25519 private key")
        self._key = key
        self._clock = clock
        self._signed: OrderedDict[tuple[Passport, timedelta], tuple[str, float]] = OrderedDict()

    @classmethod
    def from_directory(cls, directory: Path, issuer: str) -> PassportSigner:
        """Read the private key of `issuer`, as `create_keys` wrote it. ConfigError when it is none."""
        path = directory / f"{issuer}.pem"
        try:
            return cls(path.read_bytes(), issuer)
        except (OSError, ValueError, TypeError, jwt.PyJWTError):
            raise ConfigError(
                f"POINTSMAN_PASSPORT_KEY: {path} is missing or is not an Ed25519 private key; {_MAKE_KEYS}"
            ) from None

    def sign(self, passport: Passport, ttl: timedelta = timedelta(seconds=60)) -> str:
        """Return a token that is valid for `ttl`, or at least for half of it.

        The same passport gets the same token again for the first half of the token's life: signing costs
        0.1 ms here, and verifying a token never seen before costs as much at every service it reaches.
        """
        now = self._clock()
        known = self._signed.get((passport, ttl))
        if known is not None and now < known[1]:
            return known[0]
        token = jwt.encode(self._claims(passport, now, ttl), self._key, _ALGORITHM, {"kid": self.issuer})
        self._signed[passport, ttl] = (token, now + ttl.total_seconds() / 2)
        if len(self._signed) > _CACHE_ENTRIES:
            self._signed.popitem(last=False)
        return token

    def _claims(self, passport: Passport, now: float, ttl: timedelta) -> dict[str, Any]:
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": _AUDIENCE,
            "iat": int(now),
            "exp": now + ttl.total_seconds(),
            "sub": passport.principal,
            "tenant": passport.tenant,
            "scopes": sorted(passport.scopes),
            "credential": passport.credential,
        }
        if passport.account is not None:
            claims["account"] = passport.account
        return claims


class PassportVerifier:
    """Verifies passports against the public keys of all issuers."""

    def __init__(self, jwks: Mapping[str, Any], *, clock: Callable[[], float] = time.time) -> None:
        self._keys = {key["kid"]: jwt.PyJWK(key) for key in jwks["keys"]}
        self._clock = clock
        self._verified: OrderedDict[str, tuple[Passport, float]] = OrderedDict()

    @classmethod
    def from_file(cls, path: Path) -> PassportVerifier:
        """Read `jwks.json`, as `create_keys` wrote it. ConfigError when it is none."""
        try:
            return cls(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError, KeyError, jwt.PyJWTError):
            raise ConfigError(
                f"POINTSMAN_PASSPORT_KEYS: {path} is missing or does not hold public keys; {_MAKE_KEYS}"
            ) from None

    def verify(self, token: str) -> Passport:
        """Return what a valid token says; raises Failure PASSPORT_INVALID for any other."""
        known = self._verified.get(token)
        if known is None:
            known = self._check(token)
            self._verified[token] = known
            if len(self._verified) > _CACHE_ENTRIES:
                self._verified.popitem(last=False)
        passport, expires = known
        if self._clock() >= expires + _LEEWAY_SECONDS:
            self._verified.pop(token, None)
            raise _invalid("it has expired")
        return passport

    def _check(self, token: str) -> tuple[Passport, float]:
        """Return the passport and when it expires, which is not looked at here."""
        try:
            issuer = jwt.get_unverified_header(token).get("kid")
            key = self._keys.get(issuer) if isinstance(issuer, str) else None
            if key is None:
                raise _invalid("nobody we know signed it")
            claims = jwt.decode(
                token,
                key,
                algorithms=[_ALGORITHM],
                audience=_AUDIENCE,
                issuer=issuer,
                options={"require": list(_REQUIRED_CLAIMS), "verify_exp": False, "verify_iat": False},
            )
        except jwt.PyJWTError as error:
            # Why exactly is for the attacker to wonder and for the developer's debugger.
            raise _invalid("its signature or its claims are wrong") from error
        return _passport(claims), _expiry(claims)


def _passport(claims: Mapping[str, Any]) -> Passport:
    account = claims.get("account")
    scopes = claims["scopes"]
    texts = (claims["tenant"], claims["sub"], claims.get("credential", ""), account or "")
    if not isinstance(scopes, list) or not all(isinstance(text, str) for text in (*texts, *scopes)):
        raise _invalid("its claims have wrong types")
    if not claims["tenant"]:
        raise _invalid("it names no tenant")
    if INTERNAL_SCOPE in scopes and claims["iss"] not in SERVICE_ISSUERS:
        raise _invalid(f"its issuer may not claim the scope {INTERNAL_SCOPE}")
    return Passport(
        tenant=claims["tenant"],
        account=account,
        principal=claims["sub"],
        scopes=frozenset(scopes),
        credential=claims.get("credential", ""),
    )


def _expiry(claims: Mapping[str, Any]) -> float:
    expires = claims["exp"]
    if isinstance(expires, bool) or not isinstance(expires, (int, float)):
        raise _invalid("its claims have wrong types")
    return float(expires)


def _invalid(why: str) -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_PASSPORT_INVALID,
        f"The passport of this call is not valid: {why}. Call through the edge, which adds a fresh one.",
    )
