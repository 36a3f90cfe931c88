"""JWTs of an OIDC issuer that serves its keys over HTTP, or leaves them in a file."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from jwt.algorithms import RSAAlgorithm
from support.router_edge import ask, passport_of, reason_of

KEY = generate_private_key(65537, 2048)
OTHER_KEY = generate_private_key(65537, 2048)


def jwks(**keys: RSAPrivateKey) -> dict[str, Any]:
    return {
        "keys": [
            {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"}
            for kid, key in keys.items()
        ]
    }


class Issuer:
    """An identity provider on loopback. `served` is what it gives out as its keys."""

    def __init__(self) -> None:
        self.url = ""
        self.served: dict[str, Any] = jwks(one=KEY)
        self.asked = 0
        self.packed = False

    async def about(self, _request: web.Request) -> web.Response:
        return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/keys"})

    async def keys(self, _request: web.Request) -> web.Response:
        self.asked += 1
        if self.packed:
            body = gzip.compress(json.dumps(self.served).encode())
            return web.Response(body=body, headers={"content-encoding": "gzip"})
        return web.json_response(self.served)

    def token(self, *, key: Any = KEY, kid: str = "one", algorithm: str = "RS256", **claims: Any) -> str:
        claims = {
            "iss": self.url,
            "aud": "pointsman",
            "sub": "alice",
            "exp": time.time() + 300,
            "tenant": "acme",
            "roles": ["member"],
            **claims,
        }
        plain = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(plain, key, algorithm, {"kid": kid})


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    provider = Issuer()
    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", provider.about)
    app.router.add_get("/keys", provider.keys)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    provider.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield provider
    await runner.cleanup()


def settings(tmp_path: Path, **issuer: Any) -> Path:
    path = tmp_path / "router.yaml"
    # JSON is YAML.
    path.write_text(json.dumps({"issuers": [{"audience": "pointsman", **issuer}]}))
    return path


@pytest.fixture
async def trusting(open_house: Any, issuer: Issuer, tmp_path: Path) -> AsyncIterator[Any]:
    async with open_house(settings_file=settings(tmp_path, issuer=issuer.url)) as house:
        yield house


async def test_a_tokens_claims_become_the_passport(trusting, issuer):
    token = issuer.token(account="Team-1", roles=["viewer", "unheard-of"], scope="turns.run openid")
    passport = passport_of(trusting, await ask(trusting, token))
    assert (passport.tenant, passport.account, passport.principal) == ("acme", "team-1", "user:alice")
    assert passport.scopes == {"viewer", "turns.run"}


async def test_keys_are_asked_for_once(trusting, issuer):
    for subject in ("alice", "bob"):
        await ask(trusting, issuer.token(sub=subject))
    assert issuer.asked == 1


async def test_the_keys_may_be_in_a_file(open_house, issuer, tmp_path):
    keys = tmp_path / "issuer.json"
    keys.write_text(json.dumps(jwks(one=KEY)))
    file = settings(tmp_path, issuer=issuer.url, jwks=str(keys), tenant="fixed")
    async with open_house(settings_file=file) as house:
        assert passport_of(house, await ask(house, issuer.token(tenant=None))).tenant == "fixed"
    assert issuer.asked == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"exp": time.time() - 60}, "CREDENTIAL_EXPIRED"),
        ({"exp": time.time() - 1}, "CREDENTIAL_EXPIRED"),
        ({"iat": time.time() + 86_400}, "CREDENTIAL_INVALID"),
        ({"exp": float("inf")}, "CREDENTIAL_INVALID"),
        ({"aud": "another"}, "CREDENTIAL_INVALID"),
        ({"iss": "https://evil.example"}, "CREDENTIAL_INVALID"),
        ({"exp": None}, "CREDENTIAL_INVALID"),
        # Made when tests are collected, which may be long before this one runs.
        ({"nbf": time.time() + 86_400}, "CREDENTIAL_INVALID"),
        ({"key": OTHER_KEY}, "CREDENTIAL_INVALID"),
        ({"kid": "unknown"}, "CREDENTIAL_INVALID"),
        ({"key": "a-shared-secret-of-32-characters!", "algorithm": "HS256"}, "CREDENTIAL_INVALID"),
        ({"key": None, "algorithm": "none"}, "CREDENTIAL_INVALID"),
        ({"tenant": None}, "CREDENTIAL_INVALID"),
        ({"tenant": "../etc"}, "CREDENTIAL_INVALID"),
        ({"account": ["team-1"]}, "CREDENTIAL_INVALID"),
        ({"account": ""}, "CREDENTIAL_INVALID"),
        ({"roles": None}, "SCOPE_MISSING"),
        ({"roles": ["owner"]}, "SCOPE_MISSING"),
        ({"roles": ["internal"], "scope": "internal"}, "SCOPE_MISSING"),
    ],
)
async def test_a_token_that_is_not_good_is_refused(trusting, issuer, change, reason):
    response = await ask(trusting, issuer.token(**change))
    assert reason_of(response) == reason
    assert response.denied_response.status.code == (403 if reason == "SCOPE_MISSING" else 401)


async def test_a_token_means_nothing_where_no_issuer_is_trusted(house, issuer):
    assert reason_of(await ask(house, issuer.token())) == "CREDENTIAL_INVALID"


async def test_keys_that_are_compressed_are_not_unpacked(trusting, issuer):
    issuer.packed = True
    assert reason_of(await ask(trusting, issuer.token())) == "SERVICE_UNAVAILABLE"


async def test_an_issuer_that_cannot_be_reached_is_not_the_callers_fault(open_house, issuer, tmp_path):
    file = settings(tmp_path, issuer=issuer.url, jwks="http://127.0.0.1:9/keys")
    async with open_house(settings_file=file) as house:
        response = await ask(house, issuer.token())
    assert reason_of(response) == "SERVICE_UNAVAILABLE"
    assert response.denied_response.status.code == 503
