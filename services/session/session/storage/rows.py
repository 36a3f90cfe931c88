"""Rows of the tables as objects, with the columns' names; see tables.py for what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pointsman.runner.v1 import runner_service_pb2
from pointsman.session.v1 import turn_pb2

from session import names
from session.storage.tables import RUNNING


@dataclass(frozen=True)
class SessionRow:
    """A row of `sessions`."""

    id: str
    tenant: str
    account: str
    phase: int
    title: bytes
    preferred_model: str
    preferred_set: int
    template: str
    forked_from: str
    create_time: int
    last_activity_time: int
    first_sequence: int
    last_sequence: int
    agent_state: bytes
    usage: bytes
    expire_time: int
    hold_until: int
    snapshot_id: str
    workspace_changed: int
    sandbox_settings: bytes
    turn_options: bytes
    from_snapshot_id: str
    workspace_made: int

    @classmethod
    def of(cls, row: Sequence[Any]) -> SessionRow:
        """Return a whole row of the table as an object: its fields are the columns, in their order."""
        return cls(*row)

    @property
    def name(self) -> str:
        """The resource name."""
        return names.session_name(self.id)

    @property
    def sandbox(self) -> runner_service_pb2.SandboxSettings:
        """What its sandbox has beyond the workspace."""
        settings = runner_service_pb2.SandboxSettings.FromString(self.sandbox_settings)
        settings.template = self.template
        return settings

    @property
    def default_options(self) -> turn_pb2.TurnOptions:
        """Options of its turns, where a turn does not say otherwise."""
        return turn_pb2.TurnOptions.FromString(self.turn_options)


@dataclass(frozen=True)
class TemplateRow:
    """A row of `templates`."""

    id: str
    tenant: str
    account: str
    name: str
    phase: int
    title: bytes
    description: bytes
    preferred_model: str
    sandbox_settings: bytes
    turn_options: bytes
    source_session_id: str
    source_snapshot_id: str
    size_bytes: int
    create_time: int
    expire_time: int

    @classmethod
    def of(cls, row: Sequence[Any]) -> TemplateRow:
        """Return a whole row of the table as an object: its fields are the columns, in their order."""
        return cls(*row)

    @property
    def snapshot_id(self) -> str:
        """The snapshot of its files; empty when it has none."""
        return self.id if self.source_session_id else ""

    @property
    def egress_hosts(self) -> Sequence[str]:
        """Hosts that its sessions may reach."""
        return runner_service_pb2.SandboxSettings.FromString(self.sandbox_settings).egress_hosts


@dataclass(frozen=True)
class TurnRow:
    """A row of `turns`."""

    id: str
    session_id: str
    tenant: str
    account: str
    principal: str
    request_id: str
    body_hash: bytes
    prompt: bytes
    context: bytes
    model: str
    state: int
    route: int
    options: bytes
    may_escalate: int
    temporary: int
    position_key: int
    told_position: int
    epoch: int
    lease_owner: int
    lease_expires: int
    runner_index: int
    tool_ran: int
    restarts: int
    cancel_time: int
    create_time: int
    start_time: int
    end_time: int
    first_sequence: int
    last_sequence: int
    transcript_position: int
    snapshot_id: str
    result: bytes
    usage: bytes

    @classmethod
    def of(cls, row: Sequence[Any]) -> TurnRow:
        """Return a whole row of the table as an object: its fields are the columns, in their order."""
        return cls(*row)

    @property
    def name(self) -> str:
        """The resource name."""
        return names.turn_name(self.session_id, self.id)

    @property
    def over(self) -> bool:
        """Whether it has ended, one way or another."""
        return self.state > RUNNING

    @property
    def turn_options(self) -> turn_pb2.TurnOptions:
        """Its options, defaults filled in."""
        return turn_pb2.TurnOptions.FromString(self.options)
