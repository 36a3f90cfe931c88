"""An issuer's public keys: read from a file or a URL, and kept."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import jwt
from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

_FETCH_SECONDS: Final = 4.0
_LARGEST: Final = 1024 * 1024
# A small answer that is compressed can become a large one in one step.
_UNCOMPRESSED: Final = {"accept-encoding": "identity"}
# A rotated key is taken up after this at the latest; a retired one is refused after it.
_REFRESH_SECONDS: Final = 600.0
# Tokens with invented key ids must not make us flood the issuer.
_UNKNOWN_KEY_SECONDS: Final = 30.0


class KeySet:
    """The keys at `source`, by their id."""

    def __init__(self, issuer: str, source: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._source = source
        self._clock = clock
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched = float("-inf")
        self._fetching = asyncio.Lock()

    async def key(self, key_id: str) -> jwt.PyJWK | None:
        """Return the key with this id, None when the issuer has none.

        Raises Failure SERVICE_UNAVAILABLE when the keys cannot be had and none are known.
        """
        if key_id not in self._keys or self._older_than(_REFRESH_SECONDS):
            await self._refresh()
        return self._keys.get(key_id)

    def _older_than(self, seconds: float) -> bool:
        return self._clock() - self._fetched >= seconds

    async def _refresh(self) -> None:
        async with self._fetching:
            # Somebody else may have done it while we waited.
            if not self._older_than(_UNKNOWN_KEY_SECONDS):
                return
            try:
                fetched = await self._fetch()
            except (httpx.HTTPError, OSError, ValueError, KeyError, TypeError, jwt.PyJWTError) as error:
                if self._keys:
                    # The keys we know are as good as they were; asked again after the pause.
                    self._fetched = self._clock() - _REFRESH_SECONDS + _UNKNOWN_KEY_SECONDS
                    return
                raise Failure(
                    errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
                    f"The keys of the issuer {self._issuer} cannot be read just now; try again.",
                    service="identity-provider",
                ) from error
            self._keys, self._fetched = fetched, self._clock()

    async def _fetch(self) -> Mapping[str, jwt.PyJWK]:
        source = self._source
        if source and not source.startswith(("https://", "http://")):
            text = await asyncio.to_thread(Path(source).read_text)
            return _parse(json.loads(text))
        async with httpx.AsyncClient(timeout=_FETCH_SECONDS, follow_redirects=False) as http:
            if not source:
                about = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
                source = str((await _get(http, about))["jwks_uri"])
            return _parse(await _get(http, source))


async def _get(http: httpx.AsyncClient, url: str) -> dict[str, Any]:
    body = bytearray()
    async with asyncio.timeout(_FETCH_SECONDS), http.stream("GET", url, headers=_UNCOMPRESSED) as response:
        response.raise_for_status()
        if response.headers.get("content-encoding", "identity") != "identity":
            raise ValueError("the answer is compressed, which was not asked for")
        async for piece in response.aiter_raw():
            body += piece
            if len(body) > _LARGEST:
                raise ValueError("the answer is larger than keys can be")
    found = json.loads(body)
    if not isinstance(found, dict):
        raise TypeError("the answer is no JSON object")
    return found


def _parse(jwks: Mapping[str, Any]) -> Mapping[str, jwt.PyJWK]:
    keys = {}
    for entry in jwks["keys"]:
        # A shared secret among public keys is a trap, and keys for encryption are not for us.
        if entry.get("kty") == "oct" or entry.get("use", "sig") != "sig":
            continue
        try:
            keys[str(entry.get("kid", ""))] = jwt.PyJWK(entry)
        except jwt.PyJWTError:
            # Of a kind that we do not know; others may be usable.
            continue
    return keys
