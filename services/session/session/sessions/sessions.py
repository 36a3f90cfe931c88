"""Sessions as callers know them: make, show, list, change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pointsman.session.v1 import session_service_pb2
from servicekit.paging import Listing, fitting, size

from session import clock, names
from session.caller import Caller
from session.models import ModelNames
from session.peers import Party
from session.refusals import invalid_field
from session.sessions.beginning import NewSession, beginning, new_session
from session.sessions.filling import Filler, being_made
from session.sessions.prepare import Preparer
from session.sessions.sandboxes import Sandboxes, sandbox_view
from session.sessions.settings import changed, check_sources, settings_of
from session.storage.database import Database
from session.storage.rows import SessionRow, TurnRow
from session.storage.statements import accounts, requests, sessions, turns
from session.storage.tables import Phase
from session.storage.transaction import Transaction
from session.views import messages_view, session_view

# GetSession shows at most 100 messages; a turn has two.
_TURNS_SHOWN: Final = 50
_MUTABLE: Final = ("title", "preferred_model", "shared_folders", "egress_hosts")


class Sessions:
    """Makes, shows, lists and changes sessions."""

    def __init__(
        self,
        database: Database,
        *,
        models: ModelNames,
        sandboxes: Sandboxes,
        preparer: Preparer,
        filler: Filler,
    ) -> None:
        self._database = database
        self._models = models
        self._sandboxes = sandboxes
        self._preparer = preparer
        self._filler = filler

    async def create(
        self, caller: Caller, request_id: str, wanted: NewSession
    ) -> session_service_pb2.Session:
        """Make a session, or return the one that this request made before; its sandbox begins to boot.

        Raises Failure TEMPLATE_NOT_FOUND, SNAPSHOT_NOT_FOUND, SESSION_NOT_FOUND for what it is to begin with
        or to share, EGRESS_NOT_ALLOWED, REQUEST_ID_REUSED, or what llm-proxy says of the model.
        """
        party = Party(caller.tenant, wanted.account, caller.principal, request_id)
        fresh, model = names.new_id(), ""
        if wanted.preferred_model and not await self._database.run(
            lambda tx: requests.is_known(tx, caller.tenant, wanted.account, request_id)
        ):
            model = await self._models.resolve(party, wanted.preferred_model)

        async def work(tx: Transaction) -> SessionRow:
            made = await requests.once(
                tx,
                caller.tenant,
                wanted.account,
                request_id,
                method="CreateSession",
                body_hash=wanted.body_hash,
                resource=fresh,
            )
            if made == fresh:
                columns = await beginning(tx, caller, wanted, model)
                await accounts.ensure(tx, caller.tenant, wanted.account)
                await sessions.insert(tx, **new_session(fresh, caller.tenant, wanted) | columns)
            return await being_made(tx, made)

        row = await self._database.run(work)
        if row.phase == Phase.FILLING:
            await self._filler.fill(party, row, prepare=lambda: self._preparer.check(party, row))
            row = await self._database.run(lambda tx: sessions.get(tx, caller, row.id))
        elif row.id == fresh:
            self._preparer.prepare(party, row.id, row.preferred_model, row.default_options, row.sandbox)
        return session_view(row, sandbox_view(row, None))

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
        wanted: session_service_pb2.Session,
        paths: Sequence[str],
    ) -> session_service_pb2.Session:
        """Change the fields that `paths` names: `title`, `preferred_model`, `shared_folders`, `egress_hosts`.

        Raises Failure SESSION_NOT_FOUND, also for a folder of a session that is not there for the caller,
        INVALID_FIELD, EGRESS_NOT_ALLOWED, or what llm-proxy says of the model.
        """
        _check(paths)
        asked = settings_of(wanted)
        session = await self._database.run(lambda tx: sessions.get(tx, caller, session_id))
        party = Party(session.tenant, session.account, caller.principal, request_id)
        values: dict[str, object] = {}
        if "title" in paths:
            values["title"] = wanted.title.encode()
        if "preferred_model" in paths:
            model = wanted.preferred_model
            values["preferred_model"] = model and await self._models.resolve(party, model)
            # An empty one follows the turns again.
            values["preferred_set"] = int(bool(model))
        if "egress_hosts" in paths and asked.egress_hosts:
            await self._preparer.check(party, changed(session, asked, ("egress_hosts",)))

        async def work(tx: Transaction) -> None:
            row = await sessions.lock(tx, caller, session_id)
            if "shared_folders" in paths:
                await check_sources(tx, caller, row.account, asked, reader_id=row.id)
            settings = {"sandbox_settings": changed(row, asked, paths).sandbox_settings}
            await sessions.update(tx, session_id, last_activity_time=clock.now(), **values, **settings)

        await self._database.run(work)
        return await self.get(caller, session_id)


def _check(paths: Sequence[str]) -> None:
    for path in paths:
        if path not in _MUTABLE:
            raise invalid_field("update_mask", f"{path!r} cannot be changed; {', '.join(_MUTABLE)} can")
    if not paths:
        raise invalid_field("update_mask", f"must name what to change: {', '.join(_MUTABLE)}")
