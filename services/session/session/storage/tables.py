"""The schema, the same on SQLite and PostgreSQL. Migrations build it; a test compares the two.

Times are microseconds since 1970 and 0 for never. Prompts and other text of callers are bytes, because
PostgreSQL's text refuses NUL.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

import sqlalchemy as sa
from pointsman.session.v1 import turn_pb2

metadata: Final = sa.MetaData()

QUEUED: Final = int(turn_pb2.TURN_STATE_QUEUED)
RUNNING: Final = int(turn_pb2.TURN_STATE_RUNNING)


class Phase(IntEnum):
    """Whether a session or template is there for callers; one that is not OPEN answers like a missing one."""

    OPEN = 1
    FILLING = 2
    DELETING = 3


def _text(name: str, **options: Any) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, **options)


def _number(name: str, default: int = 0) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text(str(default)))


def _bytes(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary, nullable=False)


accounts: Final = sa.Table(
    "accounts",
    metadata,
    _text("tenant", primary_key=True),
    _text("account", primary_key=True),
    # 0: the installation's default.
    _number("max_concurrent_turns"),
    # What the next turn is put behind; see turns.position_key.
    _number("next_key", 1),
    # When a turn of it was last claimed: who waited longest is served first.
    _number("last_claim_time"),
    sa.Index("accounts_by_claim", "tenant", "last_claim_time"),
)

sessions: Final = sa.Table(
    "sessions",
    metadata,
    _text("id", primary_key=True),
    _text("tenant"),
    _text("account"),
    _number("phase", Phase.OPEN),
    _bytes("title"),
    _text("preferred_model"),
    # Whether a caller set the preferred model; else it follows the model that was asked for last.
    _number("preferred_set"),
    _text("template"),
    _text("forked_from"),
    _number("create_time"),
    _number("last_activity_time"),
    _number("first_sequence", 1),
    _number("last_sequence"),
    # The agent's state as JSON, see state.py. Written only together with events of the running turn.
    _bytes("agent_state"),
    # Serialized Usage.
    _bytes("usage"),
    # Delete it after this time; 0: keep it.
    _number("expire_time"),
    # Its workspace is being copied or replaced until then: start no turn.
    _number("hold_until"),
    # The newest snapshot that a turn left; empty for none.
    _text("snapshot_id", server_default=sa.text("''")),
    # Whether a caller changed files of the workspace since then.
    _number("workspace_changed"),
    # Serialized SandboxSettings: shared folders and egress hosts.
    _bytes("sandbox_settings"),
    # Serialized TurnOptions: what its template says of its turns.
    _bytes("turn_options"),
    # The snapshot whose files it began with; it keeps a snapshot of its own of them, under its own id.
    _text("from_snapshot_id", server_default=sa.text("''")),
    # Whether the workspace has something in it: a runner that does not have it may not make an empty one.
    _number("workspace_made"),
    sa.Index("sessions_by_tenant", "tenant", "phase", "last_activity_time", "id"),
    sa.Index("sessions_by_account", "tenant", "account", "phase", "last_activity_time", "id"),
    sa.Index("sessions_to_purge", "phase", "expire_time"),
)

_RUNNING_ONLY: Final = sa.text(f"state = {RUNNING}")
_ACTIVE_ONLY: Final = sa.text(f"state IN ({QUEUED}, {RUNNING})")


def _partial(name: str, *columns: str, where: sa.TextClause, unique: bool = False) -> sa.Index:
    return sa.Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


turns: Final = sa.Table(
    "turns",
    metadata,
    _text("id", primary_key=True),
    sa.Column("session_id", sa.Text, sa.ForeignKey("sessions.id"), nullable=False),
    _text("tenant"),
    _text("account"),
    _text("principal"),
    _text("request_id"),
    # Of the request without what the router adds to it.
    _bytes("body_hash"),
    _bytes("prompt"),
    _bytes("context"),
    _text("model"),
    _number("state"),
    _number("route"),
    # Serialized TurnOptions, defaults filled in.
    _bytes("options"),
    _number("may_escalate"),
    # Delete its session when it is over.
    _number("temporary"),
    # Order within the account; the smallest is next.
    _number("position_key"),
    # The position that the newest `turn_queued` told.
    _number("told_position"),
    # Counts the owners it had. Every write of an owner names its epoch, and an old one writes nothing.
    _number("epoch"),
    _number("lease_owner"),
    _number("lease_expires"),
    # Index of the last of the runner's items that is in the log.
    _number("runner_index"),
    _number("tool_ran"),
    # Starts after the first, because its runner was gone before it had done anything; some count for more.
    _number("restarts"),
    # When somebody asked to cancel it.
    _number("cancel_time"),
    _number("create_time"),
    _number("start_time"),
    _number("end_time"),
    _number("first_sequence"),
    _number("last_sequence"),
    # Transcript entries of the session up to this one belong to turns before it.
    _number("transcript_position"),
    # The snapshot of the workspace as the turn left it; turns that changed nothing share it. Empty: none.
    _text("snapshot_id", server_default=sa.text("''")),
    # Serialized TurnFinished and Usage.
    _bytes("result"),
    _bytes("usage"),
    sa.UniqueConstraint("tenant", "account", "request_id", name="turns_request_id"),
    # A session never runs two turns: not a rule that code keeps, but one that it cannot break.
    _partial("turns_one_running", "session_id", where=_RUNNING_ONLY, unique=True),
    _partial("turns_active", "tenant", "account", "state", "position_key", where=_ACTIVE_ONLY),
    sa.Index("turns_by_session", "session_id", "create_time", "id"),
    sa.Index("turns_by_end", "end_time"),
    sa.Index("turns_by_answer", "session_id", "route", "state", "start_time"),
)

# Written with literals, which is what lets both databases see that a partial index serves.
IS_ACTIVE: Final = turns.c.state.in_((sa.literal_column(str(QUEUED)), sa.literal_column(str(RUNNING))))
IS_QUEUED: Final = IS_ACTIVE & (turns.c.state == sa.literal_column(str(QUEUED)))
IS_RUNNING: Final = IS_ACTIVE & (turns.c.state == sa.literal_column(str(RUNNING)))

events: Final = sa.Table(
    "events",
    metadata,
    _text("session_id", primary_key=True),
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    _text("turn_id"),
    # Number of the field of Event that is set.
    _number("kind"),
    _number("create_time"),
    # Serialized Event.
    _bytes("payload"),
    sqlite_with_rowid=False,
)

permissions: Final = sa.Table(
    "permissions",
    metadata,
    _text("turn_id", primary_key=True),
    _text("permission_id", primary_key=True),
    _text("session_id"),
    _text("tool"),
    _number("create_time"),
    _number("expire_time"),
    # PermissionDecision; 0 while it waits.
    _number("decision"),
    # Serialized PermissionDecided.
    _bytes("decided"),
    # Whether the runner has the decision.
    _number("delivered"),
    sa.Index("permissions_by_session", "session_id"),
    _partial("permissions_waiting", "expire_time", where=sa.text("decision = 0")),
)

transcripts: Final = sa.Table(
    "transcripts",
    metadata,
    sa.Column(
        "position",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    _text("session_id"),
    _text("project"),
    _text("transcript_id"),
    _text("subpath"),
    _text("uuid"),
    _bytes("entry"),
    _number("write_time"),
    _partial(
        "transcripts_once",
        "session_id",
        "project",
        "transcript_id",
        "subpath",
        "uuid",
        where=sa.text("uuid <> ''"),
        unique=True,
    ),
    sa.Index("transcripts_in_order", "session_id", "project", "transcript_id", "subpath", "position"),
    sa.Index("transcripts_by_session", "session_id", "position"),
)

snapshots: Final = sa.Table(
    "snapshots",
    metadata,
    _text("id", primary_key=True),
    _text("session_id"),
    _bytes("title"),
    _number("create_time"),
    _number("size_bytes"),
    # Whether the runner has it; until then it is not listed.
    _number("complete"),
    sa.Index("snapshots_by_session", "session_id", "create_time", "id"),
)

templates: Final = sa.Table(
    "templates",
    metadata,
    # The id of its files' snapshot, too.
    _text("id", primary_key=True),
    _text("tenant"),
    # Empty: for every account.
    _text("account"),
    _text("name"),
    _number("phase", Phase.OPEN),
    _bytes("title"),
    _bytes("description"),
    _text("preferred_model"),
    # Serialized SandboxSettings: egress hosts.
    _bytes("sandbox_settings"),
    # Serialized TurnOptions, as they were given.
    _bytes("turn_options"),
    # Whose files it has, and of which snapshot; empty for none, and for the files of that time.
    _text("source_session_id"),
    _text("source_snapshot_id"),
    _number("size_bytes"),
    _number("create_time"),
    # One that is not filled by then is removed.
    _number("expire_time"),
    _partial(
        "templates_by_name", "tenant", "name", "account", where=sa.text(f"phase = {Phase.OPEN}"), unique=True
    ),
    sa.Index("templates_to_purge", "phase", "expire_time"),
)

requests: Final = sa.Table(
    "requests",
    metadata,
    _text("tenant", primary_key=True),
    # With its account before it: `account/uuid`.
    _text("request_id", primary_key=True),
    _text("method"),
    _bytes("body_hash"),
    # Id of what the request made.
    _text("resource"),
    _number("create_time"),
)
