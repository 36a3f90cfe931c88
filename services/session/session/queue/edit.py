"""Editing and moving turns while they wait."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pointsman.session.v1 import event_pb2, turn_pb2

from session import names
from session.caller import Caller
from session.events.bus import Bus, Topic
from session.events.hub import Hub
from session.models import ModelNames
from session.options import check_options, filled_in, helper_models, resolve_helpers
from session.peers import Party
from session.queue.positions import Positions
from session.refusals import invalid_field, turn_not_queued
from session.storage.database import Database
from session.storage.rows import TurnRow
from session.storage.statements import accounts, events, requests, sessions, turns
from session.storage.tables import QUEUED
from session.storage.transaction import Transaction
from session.views import turn_view

_MAX_PROMPT_BYTES = 1024 * 1024
_FIELDS = ("prompt", "model", "options", "position")


@dataclass(frozen=True)
class _Edit:
    caller: Caller
    session_id: str
    turn_id: str
    request_id: str
    fields: Sequence[str]
    values: dict[str, Any]
    options: turn_pb2.TurnOptions
    position: int
    body_hash: bytes


class Editor:
    """Changes turns that wait."""

    def __init__(
        self, database: Database, bus: Bus, hub: Hub, *, models: ModelNames, positions: Positions
    ) -> None:
        self._database = database
        self._bus = bus
        self._hub = hub
        self._models = models
        self._positions = positions

    async def update(
        self, caller: Caller, wanted: turn_pb2.Turn, paths: Sequence[str], request_id: str
    ) -> turn_pb2.Turn:
        """Change the fields that `paths` names. A request that came before changes nothing more.

        Raises Failure TURN_NOT_QUEUED, INVALID_FIELD, SESSION_NOT_FOUND, TURN_NOT_FOUND, MODEL_UNKNOWN.
        """
        session_id, turn_id = names.turn_ids_of(wanted.name, "turn.name")
        body_hash = _body_hash(wanted, paths)
        edit = _Edit(
            caller=caller,
            session_id=session_id,
            turn_id=turn_id,
            request_id=request_id,
            fields=_checked(paths),
            values=await self._values(caller, wanted, paths, request_id),
            options=wanted.options,
            position=wanted.position,
            body_hash=body_hash,
        )
        logged, turn, place = await self._database.run(lambda tx: self._write(tx, edit))
        self._hub.publish(session_id, logged)
        if "position" in edit.fields:
            await self._positions.tell(turn.tenant, turn.account)
        return turn_view(turn, place)

    async def _values(
        self, caller: Caller, wanted: turn_pb2.Turn, paths: Sequence[str], request_id: str
    ) -> dict[str, Any]:
        values: dict[str, Any] = {}
        if "prompt" in paths:
            prompt = wanted.prompt.encode()
            if not 0 < len(prompt) <= _MAX_PROMPT_BYTES:
                raise invalid_field("turn.prompt", f"must have 1 to {_MAX_PROMPT_BYTES} bytes")
            values["prompt"] = prompt
        party = Party(caller.tenant, caller.account or "", caller.principal, request_id)
        if "model" in paths:
            values["model"] = await self._models.resolve(party, wanted.model)
        if "options" in paths:
            await self._check_options(party, wanted.options)
        return values

    async def _check_options(self, party: Party, options: turn_pb2.TurnOptions) -> None:
        """Check options, and write the models that their helpers' names stand for."""
        check_options(options)
        found = {
            name: await self._models.resolve(party, name, f"turn.{field}")
            for field, name in helper_models(options)
        }
        resolve_helpers(options, found.__getitem__)

    async def _write(self, tx: Transaction, edit: _Edit) -> tuple[Sequence[event_pb2.Event], TurnRow, int]:
        session = await sessions.get(tx, edit.caller, edit.session_id)
        await accounts.lock(tx, session.tenant, session.account)
        await sessions.lock(tx, edit.caller, edit.session_id)
        turn = await turns.get(tx, edit.session_id, edit.turn_id)
        mark = names.new_id()
        before = await requests.once(
            tx,
            session.tenant,
            session.account,
            edit.request_id,
            method="UpdateTurn",
            body_hash=edit.body_hash,
            resource=mark,
        )
        if before != mark:
            return (), turn, await self._place(tx, turn)
        if turn.state != QUEUED:
            raise turn_not_queued(turn.state)
        if "position" in edit.fields:
            await _move(tx, turn, edit.position)
            turn = await turns.get(tx, edit.session_id, edit.turn_id)
        place = await self._place(tx, turn)
        told = event_pb2.Event(turn_updated=event_pb2.TurnUpdated(position=place, fields=edit.fields))
        logged = await events.append(tx, edit.session_id, [(turn.id, told)])
        changes = {"last_sequence": logged[-1].sequence, "told_position": place, **edit.values}
        if "options" in edit.fields:
            changes["options"] = filled_in(edit.options, session.default_options).SerializeToString()
        await turns.update(tx, turn, **changes)
        await self._bus.tell(tx, Topic.EVENTS, edit.session_id)
        return logged, await turns.get(tx, edit.session_id, edit.turn_id), place

    @staticmethod
    async def _place(tx: Transaction, turn: TurnRow) -> int:
        return (await turns.positions(tx, [turn])).get(turn.id, 0)


async def _move(tx: Transaction, turn: TurnRow, position: int) -> None:
    """Give the turn a place among those of its session that wait; turns of other sessions keep theirs."""
    waiting = [row for row in await turns.active(tx, turn.session_id) if row.state == QUEUED]
    if not 1 <= position <= len(waiting):
        raise invalid_field("turn.position", f"must be 1 to {len(waiting)}, the session's turns that wait")
    keys = [row.position_key for row in waiting]
    order = [row for row in waiting if row.id != turn.id]
    order.insert(position - 1, turn)
    for row, key in zip(order, keys, strict=True):
        if row.position_key != key:
            await turns.update(tx, row, position_key=key)


def _checked(paths: Sequence[str]) -> Sequence[str]:
    for path in paths:
        if path not in _FIELDS:
            raise invalid_field("update_mask", f"{path!r} cannot be changed; {', '.join(_FIELDS)} can")
    if not paths:
        raise invalid_field("update_mask", f"must name what to change: {', '.join(_FIELDS)}")
    return list(dict.fromkeys(paths))


def _body_hash(wanted: turn_pb2.Turn, paths: Sequence[str]) -> bytes:
    return hashlib.sha256(wanted.SerializeToString(deterministic=True) + repr(list(paths)).encode()).digest()
