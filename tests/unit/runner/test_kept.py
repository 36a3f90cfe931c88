"""Turns that are over: kept for a while, within a bound."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import uuid4

import pytest
from runner.names import TurnRef
from runner.turns.kept import KEPT_BYTES, KEPT_SECONDS, KeptTurns


def turn_ref(session: str = "") -> TurnRef:
    return TurnRef.parse("acme", f"sessions/{session or uuid4()}/turns/{uuid4()}")


@dataclass
class Over:
    bytes: int = 1
    ref: TurnRef = field(default_factory=turn_ref)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_turn_is_kept_for_its_time_and_not_longer(clock: Clock) -> None:
    kept = KeptTurns(clock)
    first, second = Over(), Over()
    kept.add(first)
    clock.now = 1
    kept.add(second)
    clock.now = KEPT_SECONDS
    assert list(kept.outdated()) == []
    clock.now += 0.5
    assert list(kept.outdated()) == [first.ref]
    clock.now += 1
    assert list(kept.outdated()) == [second.ref]
    assert list(kept.outdated()) == []


def test_the_oldest_go_when_all_together_are_too_large_and_the_newest_stays(clock: Clock) -> None:
    kept = KeptTurns(clock)
    turns = [Over(KEPT_BYTES // 3) for _ in range(5)]
    for turn in turns:
        kept.add(turn)
    assert list(kept.outdated()) == [turn.ref for turn in turns[:2]]
    large = Over(2 * KEPT_BYTES)
    kept.add(large)
    assert list(kept.outdated()) == [turn.ref for turn in turns[2:]]
    assert list(kept.outdated()) == []


def test_a_turn_that_comes_twice_is_counted_once(clock: Clock) -> None:
    kept = KeptTurns(clock)
    turn, other = Over(KEPT_BYTES // 2), Over(KEPT_BYTES // 2)
    for each in (turn, turn, other):
        kept.add(each)
    assert list(kept.outdated()) == []


def test_those_of_a_session_that_is_deleted_take_no_room_any_more(clock: Clock) -> None:
    kept = KeptTurns(clock)
    session = str(uuid4())
    gone = [Over(KEPT_BYTES // 2, turn_ref(session)) for _ in range(2)]
    other = Over(KEPT_BYTES // 2)
    for turn in (*gone, other):
        kept.add(turn)
    kept.forget(gone[0].ref.session)
    assert list(kept.outdated()) == []
    clock.now = KEPT_SECONDS + 1
    assert list(kept.outdated()) == [other.ref]
