"""Sessions as callers know them: make, show, list, change."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import session_service_pb2
from servicekit.errors import Failure

from session import clock
from session.caller import Caller
from session.database import Database
from session.models import ModelNames
from servicekit.paging import Listing, fitting, size
from session.peers import Party
from session.refusals import invalid_field
from session.rows import SessionRow, TurnRow
from session.sandboxes import Sandboxes, sandbox_view
from session.store import requests, sessions, turns
from session.tables import SessionPhase
from session.transaction import Transaction
from session.views import messages_view, session_view

# GetSession shows at most 100 messages; a turn has two.
_TURNS_SHOWN = 50


@dataclass(frozen=True)
class NewSession:
    """What a session is made with."""

    account: str
    title: str
    preferred_model: str
    template: str


class Sessions:
    """Makes, shows, lists and changes sessions."""

    def __init__(self, database: Database, models: ModelNames, sandboxes: Sandboxes) -> None:
        self._database = database
        self._models = models
        self._sandboxes = sandboxes

    async def create(
        self, caller: Caller, request_id: str, wanted: NewSession, session_id: str
    ) -> tuple[session_service_pb2.Session, bool]:
        """Make a session, or return the one that this request made before; tell whether it is new."""
        if wanted.template:
            raise Failure(
                errors_pb2.ERROR_REASON_TEMPLATE_NOT_FOUND,
                f"There is no template {wanted.template!r}; this installation has none. Leave it empty.",
            )
        model = wanted.preferred_model and await self._models.resolve(
            Party(caller.tenant, wanted.account, caller.principal, request_id), wanted.preferred_model
        )
        body = hashlib.sha256(repr(wanted).encode()).digest()

        async def work(tx: Transaction) -> tuple[SessionRow, bool]:
            made = await requests.once(
                tx, caller.tenant, request_id, method="CreateSession", body_hash=body, resource=session_id
            )
            if made == session_id:
                await sessions.insert(tx, **new_session(session_id, caller.tenant, wanted, model))
            return await sessions.get(tx, caller, made), made == session_id

        row, created = await self._database.run(work)
        return session_view(row, sandbox_view(row, None)), created

    async def get(self, caller: Caller, session_id: str) -> session_service_pb2.Session:
        """Return a session with all of its state."""

        async def work(tx: Transaction) -> tuple[SessionRow, tuple[str, int], list[TurnRow]]:
            row = await sessions.get(tx, caller, session_id)
            activity = (await sessions.activity(tx, [session_id])).get(session_id, ("", 0))
            return row, activity, await turns.newest(tx, session_id, _TURNS_SHOWN)

        row, (running, queued), newest = await self._database.run(work)
        sandbox = sandbox_view(row, await self._sandboxes.of(caller))
        return session_view(row, sandbox, running, queued, messages_view(newest))

    async def page(
        self, caller: Caller, account: str, page_size: int, page_token: str
    ) -> tuple[list[session_service_pb2.Session], str]:
        """Return a page of sessions, the one with the newest activity first, and the next page's token."""
        listing = Listing("sessions", caller.tenant, caller.account, account)
        after, limit = listing.key(page_token), size(page_size, 50)

        async def work(tx: Transaction) -> tuple[list[SessionRow], dict[str, tuple[str, int]]]:
            rows = await sessions.page(tx, caller, account, after, limit + 1)
            return rows, await sessions.activity(tx, [row.id for row in rows])

        rows, activity = await self._database.run(work)
        states = await self._sandboxes.of(caller)
        views = fitting(
            [session_view(row, sandbox_view(row, states), *activity.get(row.id, ("", 0))) for row in rows],
            limit,
        )
        last = rows[len(views) - 1] if len(rows) > len(views) else None
        return views, listing.token(last.last_activity_time, last.id) if last is not None else ""

    async def update(
        self,
        caller: Caller,
        request_id: str,
        session_id: str,
        paths: Iterable[str],
        *,
        title: str,
        model: str,
    ) -> session_service_pb2.Session:
        """Change the fields that `paths` names: `title`, `preferred_model`."""
        values: dict[str, object] = {}
        for path in paths:
            if path == "title":
                values["title"] = title.encode()
            elif path == "preferred_model":
                party = Party(caller.tenant, caller.account or "", caller.principal, request_id)
                values["preferred_model"] = model and await self._models.resolve(party, model)
                # An empty one follows the turns again.
                values["preferred_set"] = int(bool(model))
            else:
                raise invalid_field("update_mask", f"{path!r} cannot be changed; title, preferred_model can")
        if not values:
            raise invalid_field("update_mask", "must name title or preferred_model")

        async def work(tx: Transaction) -> None:
            await sessions.lock(tx, caller, session_id)
            await sessions.update(tx, session_id, last_activity_time=clock.now(), **values)

        await self._database.run(work)
        return await self.get(caller, session_id)


def new_session(session_id: str, tenant: str, wanted: NewSession, model: str) -> dict[str, object]:
    """Return the columns of a new session."""
    time = clock.now()
    return {
        "id": session_id,
        "tenant": tenant,
        "account": wanted.account,
        "phase": SessionPhase.OPEN,
        "title": wanted.title.encode(),
        "preferred_model": model,
        "preferred_set": int(bool(model)),
        "template": wanted.template,
        "create_time": time,
        "last_activity_time": time,
    }
