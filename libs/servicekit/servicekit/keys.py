"""The files that passports are signed and verified with."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

JWKS_FILE = "jwks.json"


def create_keys(directory: Path, issuers: Iterable[str]) -> Path:
    """Make sure that each issuer has a private key `<issuer>.pem` (0600), and return the path of `jwks.json`.

    Keys that exist are kept, so a second call changes nothing. `jwks.json` has the public half of every key
    in the directory and is replaced in one step, so a reader never sees half of it.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for issuer in issuers:
        _create_key(directory / f"{issuer}.pem")
    jwks = {"keys": [_public_key(path) for path in sorted(directory.glob("*.pem"))]}
    path = directory / JWKS_FILE
    draft = directory / f".{JWKS_FILE}.{os.getpid()}"
    draft.write_text(json.dumps(jwks, indent=2) + "\n")
    return draft.replace(path)


def _create_key(path: Path) -> None:
    if path.exists():
        return
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # Never readable by others, not even between creation and a chmod; and whole before it has its name, for
    # another process that creates keys at the same moment. The one that links first wins.
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _public_key(path: Path) -> dict[str, Any]:
    private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(private, Ed25519PrivateKey):
        raise ValueError(f"{path}: not an Ed25519 key; delete it, and a new one is made")
    jwk: dict[str, Any] = OKPAlgorithm.to_jwk(private.public_key(), as_dict=True)
    return {**jwk, "kid": path.stem, "alg": "EdDSA", "use": "sig"}
