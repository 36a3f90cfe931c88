"""What a new template is made with, and where its files come from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import template_service_pb2
from servicekit.errors import Failure

from session import clock, names
from session.caller import Caller
from session.refusals import session_not_found
from session.storage.statements import sessions, snapshots, templates
from session.storage.tables import Phase
from session.storage.transaction import Transaction

# One that was begun and never finished is removed after this time.
_UNFINISHED: Final = timedelta(minutes=10)


@dataclass(frozen=True)
class NewTemplate:
    """What a template is made with. `account` is empty for every account, `source` a name, empty for none."""

    account: str
    template: template_service_pb2.Template
    source: str

    @property
    def body_hash(self) -> bytes:
        """What a repeated request is compared by."""
        said = self.template.SerializeToString(deterministic=True)
        return hashlib.sha256(repr((self.account, said, self.source)).encode()).digest()


async def new_template(tx: Transaction, caller: Caller, wanted: NewTemplate) -> dict[str, Any]:
    """Return the columns of a new template that say whose it is, and whose files it is to get.

    Raises Failure TEMPLATE_EXISTS, SESSION_NOT_FOUND, SNAPSHOT_NOT_FOUND.
    """
    name = names.template_id_of(wanted.template.name, "template.name")
    if await templates.exactly(tx, caller.tenant, wanted.account, name) is not None:
        raise template_exists(name)
    session_id = snapshot_id = ""
    size = 0
    if wanted.source:
        session_id, snapshot_id = names.source_of(wanted.source, "source")
        session = await sessions.get(tx, caller, session_id)
        if wanted.account not in ("", session.account):
            raise session_not_found(session_id)
        if snapshot_id:
            size = (await snapshots.complete_one(tx, session_id, snapshot_id)).size_bytes
    return {
        "tenant": caller.tenant,
        "account": wanted.account,
        "name": name,
        "phase": Phase.FILLING,
        "source_session_id": session_id,
        "source_snapshot_id": snapshot_id,
        "size_bytes": size,
        "create_time": clock.now(),
        "expire_time": new_expiry(),
    }


def new_expiry() -> int:
    """Return when a template that is being made now is given up."""
    return clock.now() + clock.micros(_UNFINISHED)


def template_exists(name: str) -> Failure:
    """Return the answer to a second template of one name."""
    return Failure(
        errors_pb2.ERROR_REASON_TEMPLATE_EXISTS,
        f"There is a template {names.template_name(name)} already. Delete it first, or take another name.",
    )
