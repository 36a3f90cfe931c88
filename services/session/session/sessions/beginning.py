"""What a new session begins with: what its maker says, its template, the files of a snapshot."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from session import clock, names
from session.caller import Caller
from session.refusals import invalid_field, session_not_found, template_not_found
from session.sessions.filling import to_be_filled
from session.sessions.settings import Settings, check_sources, stored
from session.storage.rows import TemplateRow
from session.storage.statements import sessions, snapshots, templates
from session.storage.tables import Phase
from session.storage.transaction import Transaction


@dataclass(frozen=True)
class NewSession:
    """What a session is made with. `template` and `snapshot` are names, empty for none."""

    account: str
    title: str = ""
    preferred_model: str = ""
    template: str = ""
    snapshot: str = field(default="", repr=False)
    settings: Settings = field(default_factory=Settings, repr=False)

    @property
    def body_hash(self) -> bytes:
        """What a repeated request is compared by."""
        said = repr(self).encode()
        settings = stored(self.settings)
        if self.snapshot or settings:
            # Only then: requests from before there was any of it are still known by what they said.
            said += repr((self.snapshot, settings)).encode()
        return hashlib.sha256(said).digest()


def new_session(session_id: str, tenant: str, wanted: NewSession) -> dict[str, object]:
    """Return the columns of a new, empty session."""
    time = clock.now()
    return {
        "id": session_id,
        "tenant": tenant,
        "account": wanted.account,
        "phase": Phase.OPEN,
        "title": wanted.title.encode(),
        "template": wanted.template,
        "create_time": time,
        "last_activity_time": time,
    }


async def beginning(tx: Transaction, caller: Caller, wanted: NewSession, model: str) -> dict[str, object]:
    """Return further columns of a new session; one that is more than empty is to be filled.

    Raises Failure TEMPLATE_NOT_FOUND, SNAPSHOT_NOT_FOUND, SESSION_NOT_FOUND.
    """
    if wanted.template and wanted.snapshot:
        raise invalid_field("snapshot", "leave it out where session.template says what to begin with")
    template = await _template(tx, caller, wanted)
    settings, columns = Settings(), dict[str, object]()
    if template is not None:
        settings.egress_hosts.extend(template.egress_hosts)
        columns = {"turn_options": template.turn_options, "from_snapshot_id": template.snapshot_id}
        model = model or template.preferred_model
    elif wanted.snapshot:
        columns = {"from_snapshot_id": await _snapshot(tx, caller, wanted)}
    if wanted.settings.egress_hosts:
        settings.egress_hosts[:] = wanted.settings.egress_hosts
    settings.shared_folders.extend(wanted.settings.shared_folders)
    await check_sources(tx, caller, wanted.account, settings)
    columns |= {"preferred_model": model, "preferred_set": int(bool(model))}
    columns["sandbox_settings"] = stored(settings)
    if columns.get("from_snapshot_id") or settings.egress_hosts:
        columns |= to_be_filled()
    return columns


async def _template(tx: Transaction, caller: Caller, wanted: NewSession) -> TemplateRow | None:
    if not wanted.template:
        return None
    name = names.template_id_of(wanted.template, "session.template")
    template = await templates.find(tx, caller.tenant, wanted.account, name)
    if template is None:
        raise template_not_found(wanted.template)
    return template


async def _snapshot(tx: Transaction, caller: Caller, wanted: NewSession) -> str:
    session_id, snapshot_id = names.snapshot_ids_of(wanted.snapshot, "snapshot")
    source = await sessions.get(tx, caller, session_id)
    if source.account != wanted.account:
        raise session_not_found(session_id)
    return (await snapshots.complete_one(tx, session_id, snapshot_id)).id
