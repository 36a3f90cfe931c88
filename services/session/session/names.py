"""Resource names: `sessions/{uuid}` and what lies below it. Inside the service there are only bare ids."""

from __future__ import annotations

import re
import uuid
from typing import Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

_UUID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_SESSION: Final = re.compile(rf"sessions/({_UUID})")
_TURN: Final = re.compile(rf"sessions/({_UUID})/turns/({_UUID})")
_TEMPLATE: Final = re.compile(r"templates/([a-z0-9][a-z0-9._-]{0,62})")
_ACCOUNT: Final = re.compile(r"accounts/([a-zA-Z0-9][a-zA-Z0-9._-]{0,62})")
_SNAPSHOT: Final = re.compile(rf"sessions/({_UUID})/snapshots/({_UUID})")


def new_id() -> str:
    """Return a fresh UUID in its canonical form."""
    return str(uuid.uuid4())


def session_name(session_id: str) -> str:
    """Return `sessions/{uuid}`."""
    return f"sessions/{session_id}"


def turn_name(session_id: str, turn_id: str) -> str:
    """Return `sessions/{uuid}/turns/{uuid}`."""
    return f"sessions/{session_id}/turns/{turn_id}"


def snapshot_name(session_id: str, snapshot_id: str) -> str:
    """Return `sessions/{uuid}/snapshots/{uuid}`."""
    return f"sessions/{session_id}/snapshots/{snapshot_id}"


def template_name(template_id: str) -> str:
    """Return `templates/{id}`."""
    return f"templates/{template_id}"


def account_name(account: str) -> str:
    """Return `accounts/{account}`."""
    return f"accounts/{account}"


def session_id_of(name: str, field: str = "name") -> str:
    """Return the id in `sessions/{uuid}`; Failure INVALID_FIELD for anything else."""
    match = _SESSION.fullmatch(name)
    if match is None:
        raise _invalid(field, "must be sessions/{uuid}")
    return match[1]


def turn_ids_of(name: str, field: str = "name") -> tuple[str, str]:
    """Return session and turn id in `sessions/{uuid}/turns/{uuid}`; Failure INVALID_FIELD else."""
    match = _TURN.fullmatch(name)
    if match is None:
        raise _invalid(field, "must be sessions/{uuid}/turns/{uuid}")
    return match[1], match[2]


def snapshot_ids_of(name: str, field: str = "name") -> tuple[str, str]:
    """Return session and snapshot id in `sessions/{uuid}/snapshots/{uuid}`; Failure INVALID_FIELD else."""
    match = _SNAPSHOT.fullmatch(name)
    if match is None:
        raise _invalid(field, "must be sessions/{uuid}/snapshots/{uuid}")
    return match[1], match[2]


def template_id_of(name: str, field: str = "name") -> str:
    """Return the id in `templates/{id}`; Failure INVALID_FIELD for anything else."""
    match = _TEMPLATE.fullmatch(name)
    if match is None:
        raise _invalid(field, "must be templates/{id}, the id like ^[a-z0-9][a-z0-9._-]{0,62}$")
    return match[1]


def account_named(name: str, field: str = "name") -> str:
    """Return the account in `accounts/{account}`; Failure INVALID_FIELD for anything else."""
    match = _ACCOUNT.fullmatch(name)
    if match is None:
        raise _invalid(field, "must be accounts/{account}, the account like ^[a-z0-9][a-z0-9._-]{0,62}$")
    return match[1]


def source_of(name: str, field: str) -> tuple[str, str]:
    """Return session and snapshot id of what has files: a session, without a snapshot id, or a snapshot."""
    return snapshot_ids_of(name, field) if "/snapshots/" in name else (session_id_of(name, field), "")


def request_id_of(request_id: str) -> str:
    """Return the caller's request id in its canonical form, a new one where it gave none."""
    return str(uuid.UUID(request_id)) if request_id else new_id()


def _invalid(field: str, rule: str) -> Failure:
    return Failure(errors_pb2.ERROR_REASON_INVALID_FIELD, f"{field}: {rule}", fields=[(field, rule)])
