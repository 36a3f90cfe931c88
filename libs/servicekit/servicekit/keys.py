"""The files that passports are signed and verified with."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from servicekit.config import ConfigError
from servicekit.durable import create_file, make_private_folder, replace_file

JWKS_FILE = "jwks.json"


def create_keys(directory: Path, issuers: Iterable[str]) -> Path:
    """Make sure that each issuer has a private key `<issuer>.pem` (0600), and return the path of `jwks.json`.

    Keys that exist are kept, so a second call changes nothing. `jwks.json` has the public half of every key
    in the directory and is replaced in one step, so a reader never sees half of it. All of it is synced.

    A key without contents is made anew: passports live for a minute, so nothing depends on it. Raises
    ConfigError for one that cannot be read, OSError.
    """
    make_private_folder(directory)
    for issuer in issuers:
        _create_key(directory / f"{issuer}.pem")
    jwks = {"keys": [_public_key(path) for path in sorted(directory.glob("*.pem"))]}
    path = directory / JWKS_FILE
    data = (json.dumps(jwks, indent=2) + "\n").encode()
    if not path.is_file() or path.read_bytes() != data:
        replace_file(path, data)
    return path


def _create_key(path: Path) -> None:
    empty = path.is_file() and path.stat().st_size == 0
    if path.exists() and not empty:
        return
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    if empty:
        replace_file(path, pem)
    else:
        # Another process may create keys at the same moment; the first one counts.
        create_file(path, pem)


def _public_key(path: Path) -> dict[str, Any]:
    try:
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise ConfigError(
            f"{path}: it is not an Ed25519 private key; delete it, and the next start makes a new one"
        )
    jwk: dict[str, Any] = OKPAlgorithm.to_jwk(private.public_key(), as_dict=True)
    return {**jwk, "kid": path.stem, "alg": "EdDSA", "use": "sig"}
