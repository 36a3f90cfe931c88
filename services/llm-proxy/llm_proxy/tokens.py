"""Session tokens: what an agent's relay shows on behalf of one turn. Kept hashed, short-lived, revocable."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure
from servicekit.statement import Statement
from sqlalchemy import Connection, bindparam, delete, insert, literal_column, select, update

from llm_proxy.ledger.database import Database
from llm_proxy.ledger.jobs import IN_LOOP, TakesLong
from llm_proxy.ledger.money import Pico
from llm_proxy.ledger.scopes import Payer
from llm_proxy.ledger.tables import session_tokens

PREFIX: Final = "pst_"
LONGEST_SECONDS: Final = 3600.0

# Another replica's revocation must be seen within a second.
_TRUST_SECONDS: Final = 0.8
# One for each turn that runs now, and each takes 1 KB.
_CACHE_ENTRIES: Final = 4096
# A turn that has asked a model within this time, and whose token was not taken back, runs. One whose runner
# was killed is not waited for any longer.
_IN_USE_SECONDS: Final = 60.0
# Between looks for tokens that have expired. A busy installation gives out some thousand meanwhile.
_SWEEP_SECONDS: Final = 60.0

_ISSUE: Final = Statement(insert(session_tokens))
_SWEEP: Final = Statement(delete(session_tokens).where(session_tokens.c.expire_time < bindparam("before")))
_OF_SESSION: Final = (session_tokens.c.tenant == bindparam("of_tenant")) & (
    session_tokens.c.session == bindparam("of_session")
)
_REVOKE: Final = Statement(update(session_tokens).where(_OF_SESSION).values(revoked=literal_column("1")))
_REVOKE_TURN: Final = Statement(
    update(session_tokens)
    .where(_OF_SESSION & (session_tokens.c.turn == bindparam("of_turn")))
    .values(revoked=literal_column("1"))
)


@dataclass(frozen=True)
class SessionToken:
    """What a token stands for. `models` empty: every one. `budget` None: no limit of its own."""

    payer: Payer
    principal: str
    models: tuple[str, ...] = ()
    budget: Pico | None = None
    expire_time: float = 0.0


class SessionTokens:
    """Gives out tokens, takes them back, and knows those that are valid."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._known: OrderedDict[str, tuple[SessionToken, float]] = OrderedDict()
        self._swept = 0.0
        # When each token that was given out or shown here was last used, by its digest.
        self._used: OrderedDict[str, float] = OrderedDict()

    async def in_use(self) -> bool:
        """Say whether a turn that got its token, or used it, here within a minute still has it."""
        since = self._clock() - _IN_USE_SECONDS
        recent = [digest for digest, used in self._used.items() if used > since]
        if not recent:
            return False

        def job(connection: Connection) -> bool:
            # Another replica may have taken them back.
            valid = session_tokens.c.digest.in_(recent) & (session_tokens.c.revoked == 0)
            return (
                connection.execute(select(session_tokens.c.digest).where(valid).limit(1)).first() is not None
            )

        return await self._database.run(job, fsynced=False)

    def _note_use(self, digest: str) -> None:
        self._used[digest] = self._clock()
        self._used.move_to_end(digest)
        if len(self._used) > _CACHE_ENTRIES:
            self._used.popitem(last=False)

    async def issue(
        self,
        payer: Payer,
        principal: str,
        *,
        models: Sequence[str] = (),
        budget: Pico | None = None,
        ttl: float = LONGEST_SECONDS,
    ) -> tuple[str, SessionToken]:
        """Give out a token, valid for `ttl` seconds, at most an hour.

        It outlives this process when this returns. A power cut may take the last tenth of a second's away; a
        turn on another machine then asks with one that is not known, until it gets its next one.
        """
        now = self._clock()
        token = PREFIX + secrets.token_urlsafe(32)
        known = SessionToken(payer, principal, tuple(models), budget, now + min(ttl, LONGEST_SECONDS))
        digest = _digest(token)
        row = {
            "digest": digest,
            "tenant": payer.tenant,
            "account": payer.account,
            "session": payer.session,
            "turn": payer.turn,
            "principal": principal,
            "models": json.dumps(list(models)),
            "budget": budget,
            "expire_time": known.expire_time,
            "revoked": 0,
        }

        def job(connection: Connection) -> None:
            if now - self._swept > _SWEEP_SECONDS:
                if connection.info.get(IN_LOOP):
                    raise TakesLong
                self._swept = now
                _SWEEP.run(connection, {"before": now - LONGEST_SECONDS})
            _ISSUE.run(connection, row)

        await self._database.run(job, fsynced=False)
        # Whoever gets it asks a model next.
        self._remember(digest, known)
        self._note_use(digest)
        return token, known

    async def revoke(self, tenant: str, session: str, turn: str = "") -> None:
        """Take back a session's tokens, or a turn's. Refused from now on; by other replicas in a second."""
        whose = {"of_tenant": tenant, "of_session": session}

        def job(connection: Connection) -> None:
            if turn:
                _REVOKE_TURN.run(connection, {**whose, "of_turn": turn})
            else:
                _REVOKE.run(connection, whose)

        await self._database.run(job)
        for digest, (known, _) in list(self._known.items()):
            payer = known.payer
            if payer.tenant == tenant and payer.session == session and turn in ("", payer.turn):
                del self._known[digest]

    async def check(self, token: str) -> SessionToken:
        """Return what a token stands for. Raises Failure CREDENTIAL_INVALID, _EXPIRED or _REVOKED."""
        digest = _digest(token)
        known, trusted_until = self._known.get(digest, (None, 0.0))
        if known is None or self._clock() >= trusted_until:
            known = await self._load(digest)
            self._remember(digest, known)
        if self._clock() >= known.expire_time:
            raise Failure(errors_pb2.ERROR_REASON_CREDENTIAL_EXPIRED, "This session token has expired.")
        self._note_use(digest)
        return known

    def _remember(self, digest: str, known: SessionToken) -> None:
        """Trust a token for a moment."""
        self._known[digest] = (known, self._clock() + _TRUST_SECONDS)
        self._known.move_to_end(digest)
        if len(self._known) > _CACHE_ENTRIES:
            self._known.popitem(last=False)

    async def _load(self, digest: str) -> SessionToken:
        def job(connection: Connection) -> SessionToken:
            query = select(session_tokens).where(session_tokens.c.digest == digest)
            row = (connection.execute(query)).mappings().first()
            if row is None:
                raise Failure(
                    errors_pb2.ERROR_REASON_CREDENTIAL_INVALID,
                    "This is not a session token that was given out.",
                )
            if row["revoked"]:
                raise Failure(
                    errors_pb2.ERROR_REASON_CREDENTIAL_REVOKED, "This session token was taken back."
                )
            return SessionToken(
                Payer(row["tenant"], row["account"], row["session"], row["turn"]),
                row["principal"],
                tuple(json.loads(row["models"])),
                row["budget"],
                row["expire_time"],
            )

        self._known.pop(digest, None)
        return await self._database.run(job, fsynced=False)


def _digest(token: str) -> str:
    # Tokens are random and long, so one round of a fast hash is as good as many.
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
