"""Templates: files and settings under a name, for sessions to be made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import structlog
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import template_service_pb2 as pb
from servicekit.errors import Failure
from servicekit.paging import Listing, fitting, size
from sqlalchemy.exc import IntegrityError

from session import clock, names
from session.caller import Caller
from session.events.bus import Bus, Topic
from session.models import ModelNames
from session.peers import Party, Runner
from session.refusals import invalid_field, template_not_found
from session.sessions.new_template import NewTemplate, new_expiry, new_template, template_exists
from session.sessions.settings import Settings, stored
from session.sessions.snapshot_limits import SnapshotLimits
from session.storage.database import Database
from session.storage.rows import TemplateRow
from session.storage.statements import requests, sessions, templates
from session.storage.tables import Phase
from session.storage.transaction import Transaction
from session.views import template_view

_log = structlog.get_logger("session.templates")

_AT_ONCE: Final = 20
_MUTABLE: Final = ("title", "description", "preferred_model", "options", "egress_hosts")


class Templates:
    """Makes, shows, lists, changes and deletes templates.

    In all of them an empty account means every account of the tenant.
    """

    def __init__(
        self, database: Database, bus: Bus, models: ModelNames, runner: Runner, limits: SnapshotLimits
    ) -> None:
        self._database = database
        self._bus = bus
        self._models = models
        self._runner = runner
        self._limits = limits

    async def create(self, caller: Caller, request_id: str, wanted: NewTemplate) -> pb.Template:
        """Make a template, or return the one that this request made before.

        Raises Failure TEMPLATE_EXISTS, SESSION_NOT_FOUND or SNAPSHOT_NOT_FOUND for its source,
        SNAPSHOT_LIMIT, REQUEST_ID_REUSED, or what llm-proxy says of the model.
        """
        party = Party(caller.tenant, wanted.account, caller.principal, request_id)
        fresh, values = names.new_id(), dict[str, Any]()
        if not await self._database.run(
            lambda tx: requests.is_known(tx, caller.tenant, wanted.account, request_id)
        ):
            values = await self._values(party, wanted.template, _MUTABLE)

        async def begin(tx: Transaction) -> TemplateRow:
            made = await requests.once(
                tx,
                caller.tenant,
                wanted.account,
                request_id,
                method="CreateTemplate",
                body_hash=wanted.body_hash,
                resource=fresh,
            )
            if made == fresh:
                columns = await new_template(tx, caller, wanted)
                await templates.insert(tx, id=fresh, **columns, **values)
            # While it is being made it is not removed as one that never was.
            await templates.prolong(tx, made, new_expiry())
            return await self._made(tx, made, wanted.template.name)

        row = await self._database.run(begin)
        if row.phase == Phase.FILLING:
            row = await self._fill(party, row)
        return template_view(row)

    async def _fill(self, party: Party, row: TemplateRow) -> TemplateRow:
        """Keep the files under the template's own id, and open it."""
        source, size_bytes = names.session_name(row.source_session_id), row.size_bytes
        room = 0
        if row.source_session_id:
            room = await self._database.run(lambda tx: self._limits.room(tx, row.tenant))
        if row.source_snapshot_id:
            await self._runner.create_snapshot(party, source, row.snapshot_id, row.source_snapshot_id)
        elif row.snapshot_id:
            session = await self._database.run(lambda tx: sessions.maybe(tx, row.source_session_id))
            size_bytes = await self._runner.create_snapshot(
                party,
                source,
                row.snapshot_id,
                max_bytes=room,
                workspace_made=bool(session and session.workspace_made),
            )

        async def finish(tx: Transaction) -> TemplateRow:
            await templates.open_(tx, row.id, size_bytes)
            return await self._made(tx, row.id, names.template_name(row.name))

        try:
            return await self._database.run(finish)
        except IntegrityError:
            # Another one of the same name, made at the same moment, was faster.
            raise template_exists(row.name) from None

    @staticmethod
    async def _made(tx: Transaction, template_id: str, name: str) -> TemplateRow:
        row = await templates.by_id(tx, template_id)
        if row is None or row.phase == Phase.DELETING:
            raise template_not_found(name)
        return row

    async def get(self, caller: Caller, account: str, name: str) -> pb.Template:
        """Return what a name means in an account; Failure TEMPLATE_NOT_FOUND."""
        row = await self._database.run(lambda tx: templates.find(tx, caller.tenant, account, name))
        if row is None:
            raise template_not_found(names.template_name(name))
        return template_view(row)

    async def page(
        self, caller: Caller, account: str, page_size: int, page_token: str
    ) -> tuple[list[pb.Template], str]:
        """Return a page of templates by name, and the next page's token."""
        listing = Listing("templates", caller.tenant, caller.account, account)
        key, limit = listing.key(page_token), size(page_size, 50)
        # The key's text is a name and an account; neither has a slash in it.
        after = None if key is None else (key[1].partition("/")[0], key[1].partition("/")[2])
        rows = await self._database.run(lambda tx: templates.page(tx, caller, account, after, limit + 1))
        views = fitting([template_view(row) for row in rows], limit)
        last = rows[len(views) - 1] if len(rows) > len(views) else None
        return views, listing.token(0, f"{last.name}/{last.account}") if last is not None else ""

    async def update(
        self, caller: Caller, account: str, request_id: str, wanted: pb.Template, paths: Sequence[str]
    ) -> pb.Template:
        """Change the fields that `paths` names. Raises Failure TEMPLATE_NOT_FOUND, ACCOUNT_PINNED."""
        for path in paths:
            if path not in _MUTABLE:
                raise invalid_field("update_mask", f"{path!r} cannot be changed; {', '.join(_MUTABLE)} can")
        if not paths:
            raise invalid_field("update_mask", f"must name what to change: {', '.join(_MUTABLE)}")
        name = names.template_id_of(wanted.name, "template.name")
        party = Party(caller.tenant, account, caller.principal, request_id)
        values = await self._values(party, wanted, paths)

        async def work(tx: Transaction) -> TemplateRow:
            row = await _to_change(tx, caller, account, name)
            await templates.update(tx, row.id, **values)
            return await self._made(tx, row.id, wanted.name)

        return template_view(await self._database.run(work))

    async def delete(self, caller: Caller, account: str, name: str) -> None:
        """Delete a template; its files follow. Raises Failure TEMPLATE_NOT_FOUND, ACCOUNT_PINNED."""

        async def work(tx: Transaction) -> None:
            row = await _to_change(tx, caller, account, name)
            await templates.update(tx, row.id, phase=Phase.DELETING)
            await self._bus.tell(tx, Topic.QUEUE)

        await self._database.run(work)
        self._bus.here(Topic.QUEUE)

    async def remove_deleted(self) -> None:
        """Remove files and rows of templates that are deleted; one that cannot be is for the next time."""
        await self._database.run(lambda tx: templates.expire(tx, clock.now()))
        after = ""
        while found := await self._to_remove(after):
            for row in found:
                await self._remove(row)
            after = found[-1].id

    async def _to_remove(self, after: str) -> Sequence[TemplateRow]:
        return await self._database.run(lambda tx: templates.to_remove(tx, after, _AT_ONCE))

    async def _remove(self, row: TemplateRow) -> None:
        party = Party(row.tenant, row.account, "pointsman", row.id)
        try:
            if row.snapshot_id:
                await self._runner.delete_snapshot(party, row.snapshot_id)
        except Failure as failure:
            _log.info("removal_waits", template=row.name, reason=failure.reason_name)
            return
        await self._database.run(lambda tx: templates.remove(tx, row.id))

    async def _values(self, party: Party, wanted: pb.Template, paths: Sequence[str]) -> dict[str, Any]:
        """Return the columns of what `paths` names."""
        model = ""
        if "preferred_model" in paths and wanted.preferred_model:
            model = await self._models.resolve(party, wanted.preferred_model)
        hosts = Settings(egress_hosts=list(dict.fromkeys(wanted.egress_hosts)))
        columns: dict[str, tuple[str, Any]] = {
            "title": ("title", wanted.title.encode()),
            "description": ("description", wanted.description.encode()),
            "preferred_model": ("preferred_model", model),
            "options": ("turn_options", wanted.options.SerializeToString(deterministic=True)),
            "egress_hosts": ("sandbox_settings", stored(hosts)),
        }
        return dict(columns[path] for path in paths)


async def _to_change(tx: Transaction, caller: Caller, account: str, name: str) -> TemplateRow:
    row = await templates.exactly(tx, caller.tenant, account, name)
    if row is not None:
        return row
    if caller.account is not None and await templates.find(tx, caller.tenant, account, name) is not None:
        raise Failure(
            errors_pb2.ERROR_REASON_ACCOUNT_PINNED,
            f"{names.template_name(name)} is for every account; this credential is pinned to one. Use "
            "another one.",
        )
    raise template_not_found(names.template_name(name))
