"""The transaction that makes a turn durable, and makes it run at once where nothing is in its way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import event_pb2, turn_pb2
from servicekit.errors import Failure

from session import clock
from session.events.bus import Bus, Topic
from session.options import helper_models, resolve_helpers, title_of
from session.queue.claim import Claim, Claims, started
from session.queue.wanted import Asked, Wanted, options_of
from session.refusals import invalid_field, request_id_reused
from session.sessions.beginning import NewSession, new_session
from session.storage.rows import SessionRow, TurnRow
from session.storage.statements import accounts, events, sessions, turns
from session.storage.statements.accounts import AccountRow
from session.storage.statements.turns import Active
from session.storage.tables import RUNNING
from session.storage.transaction import Transaction


@dataclass(frozen=True)
class Accepted:
    """A turn that is durable."""

    turn: TurnRow
    position: int
    """Its place in its account's queue; 0 when it runs."""
    created: bool
    """Whether this request made it, and not one before."""
    events: Sequence[event_pb2.Event] = ()
    """What was logged with it."""
    claim: Claim | None = None
    """Ours, when it was made to run at once."""
    interrupted: str = ""
    """The id of a turn that is to stop for it."""


class ModelWanted(Exception):  # noqa: N818 - rolls the transaction back
    """The turn's model is not known here: ask for it, and try again."""

    def __init__(self, account: str, model: str, field: str = "") -> None:
        super().__init__(model)
        self.account = account
        self.model = model
        self.field = field
        """Where the name stands; empty for the turn's own model."""


class Acceptance:
    """Accepts turns. `limit` is how many may wait in one account.

    `model_of(tenant, model)` tells what a name stands for, None when it has to be asked for first. It is
    called in the database's thread.
    """

    def __init__(
        self, bus: Bus, claims: Claims, limit: int, model_of: Callable[[str, str], str | None]
    ) -> None:
        self._bus = bus
        self._claims = claims
        self._limit = limit
        self._model_of = model_of

    async def accept(self, tx: Transaction, asked: Asked, *, may_run: bool) -> Accepted:
        """Write what is asked; with `may_run` it runs at once if nothing of its account is before it.

        Raises ModelWanted, or Failure REQUEST_ID_REUSED, SESSION_NOT_FOUND, SESSION_BUSY, QUEUE_FULL.
        """
        session = await self._named(tx, asked)
        name = asked.account if session is None else session.account
        account = await accounts.lock(tx, asked.caller.tenant, name)
        # Under the account's lock: the same request at the same moment is here already, or not at all.
        known = await known_turn(tx, asked, name)
        if known is not None:
            return known
        if asked.request.newest_session and session is None:
            # Under it as well, so that two that come to an account without any do not make two.
            session = await sessions.newest(tx, asked.caller, name)
        model = asked.request.model or ("" if session is None else session.preferred_model)
        resolved = self._resolved(asked, name, model)
        options = options_of(asked.request, session)
        helpers = {
            named: self._resolved(asked, name, named, field) for field, named in helper_models(options)
        }
        resolve_helpers(options, helpers.__getitem__)
        return await self._write(tx, Wanted(asked, name, session, resolved, options), account, may_run)

    def _resolved(self, asked: Asked, account: str, model: str, field: str = "") -> str:
        resolved = self._model_of(asked.caller.tenant, model)
        if resolved is None:
            raise ModelWanted(account, model, field)
        return resolved

    async def _named(self, tx: Transaction, asked: Asked) -> SessionRow | None:
        if not asked.session_id:
            return None
        session = await sessions.get(tx, asked.caller, asked.session_id)
        if asked.account not in ("", session.account):
            raise invalid_field("account", "is not the account of the session; leave it out")
        return session

    async def _write(self, tx: Transaction, wanted: Wanted, account: AccountRow, may_run: bool) -> Accepted:
        active = await turns.of_account(tx, account.tenant, account.account)
        waiting = [turn for turn in active if turn.state != RUNNING]
        self._check_room(account.account, len(waiting))
        session, changes = await self._session(tx, wanted)
        busy = [turn for turn in active if turn.session_id == session.id]
        interrupted, key = await self._place(tx, wanted, busy, _keys(waiting, account))
        position = sum(turn.position_key < key for turn in waiting) + 1
        columns = wanted.columns(key) | {"told_position": position}
        first = [event_pb2.Event(turn_queued=event_pb2.TurnQueued(position=position)), *wanted.preface()]
        time = columns["create_time"]
        free = not waiting and not busy and session.hold_until <= time
        at_once = may_run and free and self._claims.room(account, len(active))
        if at_once:
            first.append(started(wanted.model, wanted.route, waited=0))
        logged = await events.append(
            tx, session.id, [(wanted.asked.turn_id, event) for event in first], **changes
        )
        columns |= {"first_sequence": logged[0].sequence, "last_sequence": logged[-1].sequence}
        served = {"last_claim_time": time} if at_once else {}
        await accounts.update(tx, account.tenant, account.account, next_key=account.next_key + 1, **served)
        await self._bus.tell(tx, Topic.EVENTS, session.id)
        if at_once:
            claim = await self._claims.insert(tx, session, **columns)
            return Accepted(claim.turn, 0, created=True, events=logged, claim=claim)
        turn = await turns.insert(tx, **columns)
        await self._bus.tell(tx, Topic.QUEUE)
        return Accepted(turn, position, created=True, events=logged, interrupted=interrupted)

    async def _session(self, tx: Transaction, wanted: Wanted) -> tuple[SessionRow, dict[str, object]]:
        """Make or lock the session; return it, and what is to change in it."""
        title = title_of(wanted.asked.request.prompt)
        follow = {"preferred_model": wanted.model} if wanted.asked.request.model else {}
        if wanted.session is None:
            fresh = NewSession(wanted.account, title)
            row = new_session(wanted.session_id, wanted.asked.caller.tenant, fresh)
            return await sessions.insert(tx, **row), dict(follow)
        session = await sessions.lock_again(tx, wanted.asked.caller, wanted.session)
        changes: dict[str, object] = {} if session.title else {"title": title.encode()}
        return session, changes if session.preferred_set else changes | follow

    def _check_room(self, account: str, waiting: int) -> None:
        if waiting >= self._limit:
            raise Failure(
                errors_pb2.ERROR_REASON_QUEUE_FULL,
                f"{self._limit} turns of the account {account} wait already. Come back when some are done, "
                "or cancel some.",
                retry_after=timedelta(seconds=5),
                limit=str(self._limit),
            )

    async def _place(
        self, tx: Transaction, wanted: Wanted, busy: Sequence[Active], keys: tuple[int, int]
    ) -> tuple[str, int]:
        """Apply the busy policy; return the turn that is interrupted, if one is, and the new turn's key.

        `busy` are the session's turns, the running one first; `keys` put it before or behind all others of
        its account.
        """
        policy = wanted.asked.request.busy_policy
        if not busy or policy in (turn_pb2.BUSY_POLICY_UNSPECIFIED, turn_pb2.BUSY_POLICY_ENQUEUE):
            return "", keys[1]
        if policy == turn_pb2.BUSY_POLICY_REJECT:
            raise Failure(
                errors_pb2.ERROR_REASON_SESSION_BUSY,
                "The session has a turn that runs or waits, and the call asked not to wait.",
                turn=busy[0].name,
            )
        if busy[0].state != RUNNING:
            return "", keys[0]
        await turns.update(tx, busy[0], cancel_time=clock.now())
        await self._bus.tell(tx, Topic.CANCEL, busy[0].id)
        return busy[0].id, keys[0]


async def known_turn(tx: Transaction, asked: Asked, account: str) -> Accepted | None:
    """Return the turn that the request made before in an account; Failure REQUEST_ID_REUSED.

    The same id in another account is another request: who sees one account learns nothing of the others.
    """
    turn = await turns.by_request(tx, asked.caller.tenant, account, asked.request_id)
    if turn is None:
        return None
    if turn.body_hash != asked.body_hash or asked.caller.account not in (None, turn.account):
        raise request_id_reused(asked.request_id)
    positions = await turns.positions(tx, [turn])
    return Accepted(turn, positions.get(turn.id, 0), created=False)


def _keys(waiting: Sequence[Active], account: AccountRow) -> tuple[int, int]:
    """Return the keys that put a turn before all that wait, and behind them."""
    return min((turn.position_key for turn in waiting), default=account.next_key) - 1, account.next_key
