import base64
import json
import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pointsman.errors.v1 import errors_pb2
from servicekit.config import ConfigError
from servicekit.errors import Failure
from servicekit.keys import create_keys
from servicekit.passport import Passport, PassportSigner, PassportVerifier
from servicekit.testing import test_keys

PASSPORT = Passport("acme", "team-1", "alice", frozenset({"read", "write"}), credential="key-7")
INTERNAL = Passport("acme", None, "session", frozenset({"internal"}))


class Clock:
    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def refused(verifier: PassportVerifier, token: str) -> str:
    with pytest.raises(Failure) as caught:
        verifier.verify(token)
    assert caught.value.reason == errors_pb2.ERROR_REASON_PASSPORT_INVALID
    return caught.value.message


def forged(tmp_path: Path, issuer: str, **changes: Any) -> str:
    """A token with the issuer's real key and other claims; a claim of None is left out."""
    keys = test_keys(tmp_path)
    honest = jwt.decode(keys.signer(issuer).sign(PASSPORT), options={"verify_signature": False})
    claims = {name: value for name, value in {**honest, **changes}.items() if value is not None}
    return jwt.encode(claims, (keys.directory / f"{issuer}.pem").read_bytes(), "EdDSA", {"kid": issuer})


@pytest.mark.parametrize("passport", [PASSPORT, INTERNAL, Passport("t", None, "", frozenset())])
def test_a_passport_survives_signing(tmp_path: Path, passport: Passport) -> None:
    keys = test_keys(tmp_path)
    assert keys.verifier.verify(keys.signer("router").sign(passport)) == passport


def test_a_passport_expires_even_when_it_was_verified_before(tmp_path: Path) -> None:
    keys = test_keys(tmp_path)
    clock = Clock()
    pem = (keys.directory / "router.pem").read_bytes()
    token = PassportSigner(pem, "router", clock=clock).sign(PASSPORT, timedelta(seconds=60))
    verifier = PassportVerifier(json.loads(keys.jwks.read_text()), clock=clock)
    clock.now += 59
    assert verifier.verify(token) == PASSPORT
    clock.now += 7
    assert "expired" in refused(verifier, token)
    assert "expired" in refused(verifier, token)


def test_a_signer_gives_the_same_token_for_half_of_its_life(tmp_path: Path) -> None:
    keys = test_keys(tmp_path)
    clock = Clock()
    signer = PassportSigner((keys.directory / "router.pem").read_bytes(), "router", clock=clock)
    first = signer.sign(PASSPORT)
    clock.now += 29
    assert signer.sign(PASSPORT) == first
    assert signer.sign(INTERNAL) != first
    clock.now += 2
    assert signer.sign(PASSPORT) != first


def test_a_token_from_a_key_we_do_not_know_is_refused(tmp_path: Path) -> None:
    ours = test_keys(tmp_path / "ours")
    theirs = test_keys(tmp_path / "theirs", ["router", "mallory"])
    refused(ours.verifier, theirs.signer("router").sign(PASSPORT))
    refused(ours.verifier, theirs.signer("mallory").sign(PASSPORT))


def test_one_issuer_cannot_sign_for_another(tmp_path: Path) -> None:
    refused(test_keys(tmp_path).verifier, forged(tmp_path, "runner", iss="router"))


def test_only_services_may_claim_the_scope_internal(tmp_path: Path) -> None:
    keys = test_keys(tmp_path, ["router", "ci"])
    assert keys.verifier.verify(keys.signer("router").sign(INTERNAL)) == INTERNAL
    assert keys.verifier.verify(keys.signer("ci").sign(PASSPORT)) == PASSPORT
    assert "internal" in refused(keys.verifier, keys.signer("ci").sign(INTERNAL))


@pytest.mark.parametrize(
    "changes",
    [
        {"tenant": ""},
        {"tenant": None},
        {"tenant": 7},
        {"account": 7},
        {"scopes": None},
        {"scopes": "internal"},
        {"scopes": [7]},
        {"aud": "elsewhere"},
        {"aud": None},
        {"exp": None},
        {"exp": "soon"},
        {"exp": True},
        {"sub": None},
        {"credential": {}},
    ],
    ids=str,
)
def test_a_token_with_wrong_claims_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    refused(test_keys(tmp_path).verifier, forged(tmp_path, "router", **changes))


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "é", "." * 10_000, "eyJhbGciOiJub25lIn0.e30."])
def test_what_is_no_token_is_refused(tmp_path: Path, token: str) -> None:
    refused(test_keys(tmp_path).verifier, token)


def test_a_token_signed_with_the_public_key_as_a_password_is_refused(tmp_path: Path) -> None:
    keys = test_keys(tmp_path)
    public = next(key for key in json.loads(keys.jwks.read_text())["keys"] if key["kid"] == "router")
    claims = jwt.decode(keys.signer("router").sign(PASSPORT), options={"verify_signature": False})
    secret = base64.urlsafe_b64decode(public["x"] + "==")
    refused(keys.verifier, jwt.encode(claims, secret, "HS256", {"kid": "router"}))


def test_keys_are_private_and_stay_when_made_again(tmp_path: Path) -> None:
    jwks = create_keys(tmp_path / "keys", ["router", "session"])
    before = {path.name: path.read_bytes() for path in jwks.parent.iterdir()}
    assert set(before) == {"router.pem", "session.pem", "jwks.json"}
    for name in ("router.pem", "session.pem"):
        assert stat.S_IMODE((jwks.parent / name).stat().st_mode) == 0o600
    assert create_keys(tmp_path / "keys", ["router", "session"]) == jwks
    assert {path.name: path.read_bytes() for path in jwks.parent.iterdir()} == before


def test_the_public_file_has_nothing_private(tmp_path: Path) -> None:
    keys = json.loads(create_keys(tmp_path, ["router", "session"]).read_text())["keys"]
    assert [key["kid"] for key in keys] == ["router", "session"]
    assert all("d" not in key for key in keys)


def test_a_key_of_another_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / "router.pem").write_bytes(b"not a key")
    with pytest.raises(ConfigError):
        create_keys(tmp_path, ["router"])
    assert isinstance(Ed25519PrivateKey.generate(), Ed25519PrivateKey)
