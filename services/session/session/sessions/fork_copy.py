"""What a fork takes over: turns, events and transcript up to its origin, under names of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from session import names
from session.storage.rows import SessionRow, TurnRow
from session.storage.statements import events, transcripts, turns
from session.storage.statements.transcripts import Entry, Key
from session.storage.transaction import Transaction

# Rows read and written at once: they are all in one transaction, but not all in memory.
_PAGE: Final = 500


async def copy_history(tx: Transaction, source: SessionRow, origin: TurnRow, target: SessionRow) -> int:
    """Copy all that was there when `origin` had ended; return the number of the copy's newest event."""
    kept = [turn for turn in await turns.all_over(tx, source.id) if _before(turn, origin)]
    ids = {turn.id: names.new_id() for turn in kept}
    last, numbers = await _copy_events(tx, source, target, ids, origin.last_sequence)
    for turn in kept:
        # Its files as the target has them now, or of a time that the other session has kept for itself.
        shared = turn.snapshot_id == origin.snapshot_id != ""
        await turns.insert(
            tx, **_turn(turn, target, ids[turn.id], numbers) | {"snapshot_id": target.id if shared else ""}
        )
    await _copy_transcripts(tx, source, target, await turns.transcript_end(tx, origin))
    return last


def _before(turn: TurnRow, origin: TurnRow) -> bool:
    """Say whether a turn had ended when the origin had."""
    return (turn.end_time, turn.id) <= (origin.end_time, origin.id)


def _turn(
    turn: TurnRow, target: SessionRow, turn_id: str, numbers: Mapping[str, tuple[int, int]]
) -> dict[str, Any]:
    first, last = numbers.get(turn.id, (0, 0))
    return turn.__dict__ | {
        "id": turn_id,
        "session_id": target.id,
        # An id belongs to one turn; this one was made by nobody's request.
        "request_id": names.new_id(),
        "lease_owner": 0,
        "transcript_position": 0,
        "temporary": 0,
        "first_sequence": first,
        "last_sequence": last,
    }


async def _copy_events(
    tx: Transaction, source: SessionRow, target: SessionRow, ids: Mapping[str, str], through: int
) -> tuple[int, dict[str, tuple[int, int]]]:
    """Copy events of the turns in `ids`; return the last number, and first and last of each turn."""
    after, number = source.first_sequence - 1, 0
    numbers: dict[str, tuple[int, int]] = {}
    while True:
        page = await events.read(tx, source.id, after, _PAGE, through=through)
        copies, of_turns = [], []
        for event in page:
            after = event.sequence
            _, turn_id = names.turn_ids_of(event.turn)
            if turn_id not in ids:
                # It waited, or ended later.
                continue
            number += 1
            numbers[turn_id] = (numbers.get(turn_id, (number, 0))[0], number)
            event.sequence = number
            event.turn = names.turn_name(target.id, ids[turn_id])
            copies.append(event)
            of_turns.append(ids[turn_id])
        await events.insert(tx, target.id, of_turns, copies)
        if len(page) < _PAGE:
            return number, numbers


async def _copy_transcripts(tx: Transaction, source: SessionRow, target: SessionRow, through: int) -> None:
    after = 0
    while True:
        page = await transcripts.whole(tx, source.id, through, after, _PAGE)
        for _, key, entry in page:
            transcript_id = target.id if key.transcript_id == source.id else key.transcript_id
            copied = Key(target.id, key.project, transcript_id, key.subpath)
            await transcripts.append(
                tx, copied, [Entry(entry.uuid, _renamed(entry.line, source.id, target.id))]
            )
        if transcripts.is_last([(at, entry) for at, _, entry in page], _PAGE):
            return
        after = page[-1][0]


def _renamed(line: bytes, old: str, new: str) -> bytes:
    """Return a transcript's line as if the new session had written it."""
    try:
        read = json.loads(line)
    except ValueError:
        return line
    if not isinstance(read, dict) or read.get("sessionId") != old:
        return line
    return json.dumps(read | {"sessionId": new}, separators=(",", ":"), ensure_ascii=False).encode()
