"""Who asks over HTTP: an agent's relay with a session token, or somebody who came through the edge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pointsman.errors.v1 import errors_pb2
from servicekit.access import Access, check_scope
from servicekit.context import DEFAULT_ACCOUNT, log_fields
from servicekit.errors import Failure
from servicekit.passport import PASSPORT_HEADER, PassportVerifier

from llm_proxy.caller import Caller
from llm_proxy.ledger.scopes import Payer
from llm_proxy.tokens import SessionTokens

SESSION_HEADER: Final = "x-pointsman-session"


class Identity:
    """Finds out who a request comes from."""

    def __init__(self, tokens: SessionTokens, verifier: PassportVerifier) -> None:
        self._tokens = tokens
        self._verifier = verifier

    async def caller(self, headers: Mapping[str, str], access: Access = Access.TURNS_RUN) -> Caller:
        """Return the caller. Raises Failure CREDENTIAL_MISSING, CREDENTIAL_… or PASSPORT_INVALID.

        `access` is what a passport has to allow, else SCOPE_MISSING; a session token is for all of it.
        A request with a passport came through the edge: then a session token in it is not looked at, so one
        that was stolen from a relay is worth nothing there.
        """
        passport = headers.get(PASSPORT_HEADER)
        if passport is not None:
            return self._by_passport(passport, access)
        token = _bearer(headers)
        if not token:
            raise Failure(
                errors_pb2.ERROR_REASON_CREDENTIAL_MISSING,
                "No credential came with the request. Send `Authorization: Bearer <token>` or `x-api-key`.",
            )
        known = await self._tokens.check(token)
        session = headers.get(SESSION_HEADER)
        if session is not None and session != known.payer.session:
            raise Failure(
                errors_pb2.ERROR_REASON_CREDENTIAL_INVALID, "This session token is not for this session."
            )
        return _logged(Caller(known.payer, known.models, known.budget))

    def _by_passport(self, token: str, access: Access) -> Caller:
        passport = self._verifier.verify(token)
        check_scope(access, passport, "This path of the Messages API")
        return _logged(Caller(Payer(passport.tenant, (passport.account or DEFAULT_ACCOUNT).lower())))


def _logged(caller: Caller) -> Caller:
    payer = caller.payer
    log_fields(tenant=payer.tenant, account=payer.account, session=payer.session, turn=payer.turn)
    return caller


def _bearer(headers: Mapping[str, str]) -> str:
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    return headers.get("x-api-key", "").strip()
