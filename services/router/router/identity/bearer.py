"""The credential in a request's headers, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

API_KEY_HEADER: Final = "x-api-key"
CREDENTIAL_HEADERS: Final = frozenset({"authorization", API_KEY_HEADER})

# Names under which people put keys in URLs.
_KEY_PARAMETERS: Final = frozenset(
    {"access_token", "api-key", "api_key", "apikey", "auth", "authorization", "bearer", "key", "token"}
)
# A JWT with many claims has 4 KB.
_LONGEST: Final = 8192


def bearer_of(headers: Mapping[str, str], path: str) -> str:
    """Return the credential of `authorization: Bearer <credential>`; header names are in lower case.

    Clients of the Anthropic Messages API may send it as `x-api-key` instead. Raises Failure
    CREDENTIAL_MISSING when there is none, and CREDENTIAL_INVALID when it is not in that form or came in the
    URL, where proxies and browsers would keep it.
    """
    _refuse_in_url(path)
    header = headers.get("authorization", "").strip()
    if not header and headers.get(API_KEY_HEADER):
        header = f"Bearer {headers[API_KEY_HEADER]}"
    if not header:
        raise Failure(
            errors_pb2.ERROR_REASON_CREDENTIAL_MISSING,
            "No credential came with the call. Send the header `authorization: Bearer <API key>`.",
        )
    scheme, _, credential = header.partition(" ")
    credential = credential.strip()
    # A header that came twice arrives here joined by a comma.
    if (
        scheme.lower() != "bearer"
        or not credential
        or len(credential) > _LONGEST
        or set(credential) & set(", ")
    ):
        raise Failure(
            errors_pb2.ERROR_REASON_CREDENTIAL_INVALID,
            "The authorization header cannot be read. Send it once, as `authorization: Bearer <API key>`.",
        )
    return credential


def _refuse_in_url(path: str) -> None:
    query = path.partition("?")[2]
    if any(name.lower() in _KEY_PARAMETERS for name, _ in parse_qsl(query, keep_blank_values=True)):
        raise Failure(
            errors_pb2.ERROR_REASON_CREDENTIAL_INVALID,
            "Keys are not taken in the URL, which logs and histories keep; consider this one leaked. "
            "Send it in the header `authorization: Bearer <API key>`.",
        )
