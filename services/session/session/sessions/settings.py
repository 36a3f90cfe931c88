"""What sandboxes have beyond their workspace: folders of other sessions, and hosts that they may reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pointsman.errors.v1 import errors_pb2
from pointsman.runner.v1 import runner_service_pb2
from pointsman.session.v1 import session_service_pb2
from servicekit.errors import Failure

from session import names
from session.caller import Caller
from session.refusals import invalid_field, session_not_found
from session.storage.rows import SessionRow
from session.storage.statements import sessions
from session.storage.tables import Phase
from session.storage.transaction import Transaction

Settings = runner_service_pb2.SandboxSettings


def settings_of(wanted: session_service_pb2.Session) -> Settings:
    """Return what a caller asks for, each host once. Failure INVALID_FIELD."""
    _check_form(wanted.shared_folders)
    return Settings(
        shared_folders=wanted.shared_folders, egress_hosts=list(dict.fromkeys(wanted.egress_hosts))
    )


def stored(settings: Settings) -> bytes:
    """Return settings as a session keeps them; its template has a column of its own."""
    kept = Settings(shared_folders=settings.shared_folders, egress_hosts=settings.egress_hosts)
    return kept.SerializeToString(deterministic=True)


def changed(session: SessionRow, asked: Settings, paths: Sequence[str]) -> SessionRow:
    """Return a session with those of its settings replaced that `paths` names."""
    settings = session.sandbox
    if "shared_folders" in paths:
        settings.ClearField("shared_folders")
        settings.shared_folders.extend(asked.shared_folders)
    if "egress_hosts" in paths:
        settings.egress_hosts[:] = asked.egress_hosts
    return replace(session, sandbox_settings=stored(settings))


async def check_sources(
    tx: Transaction, caller: Caller, account: str, settings: Settings, *, reader_id: str = ""
) -> None:
    """Raise Failure SESSION_NOT_FOUND for a folder that is not of another session of the reader's account."""
    for number, folder in enumerate(settings.shared_folders):
        source_id = names.session_id_of(folder.session)
        if source_id == reader_id:
            raise invalid_field(
                f"session.shared_folders[{number}].session",
                "is the session itself, which has it",
            )
        source = await sessions.get(tx, caller, source_id)
        if source.account != account:
            raise session_not_found(source_id)


async def lost_source(tx: Transaction, session: SessionRow) -> Failure | None:
    """Return why a turn cannot have its session's shared folders; None when every source is there."""
    for folder in session.sandbox.shared_folders:
        source = await sessions.maybe(tx, names.session_id_of(folder.session))
        whose = (session.tenant, session.account, Phase.OPEN)
        if source is None or (source.tenant, source.account, source.phase) != whose:
            return Failure(
                errors_pb2.ERROR_REASON_SHARED_FOLDER_NOT_FOUND,
                f"The shared folder {folder.name!r} is gone: {folder.session} was deleted. "
                "Take it out of the session's shared_folders, or share another.",
                name=folder.name,
                session=folder.session,
                path=folder.path,
            )
    return None


def _check_form(folders: Sequence[session_service_pb2.SharedFolder]) -> None:
    seen = set()
    for number, folder in enumerate(folders):
        field = f"session.shared_folders[{number}]"
        if folder.name in seen:
            raise invalid_field(f"{field}.name", f"there is another folder {folder.name!r}; names are unique")
        seen.add(folder.name)
        parts = folder.path.split("/")
        if "\0" in folder.path or ".." in parts or (folder.path and "" in parts):
            raise invalid_field(
                f"{field}.path", "must be a path below the workspace, like docs/api, without .. in it"
            )
