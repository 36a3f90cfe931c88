"""What must hold of a session service's log and of what its runners did, whatever was killed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from pointsman.session.v1 import event_pb2, turn_pb2


def faults_of_log(events: Sequence[event_pb2.Event]) -> list[str]:
    """Return what is wrong with a session's log: numbers, ends, and steps of turns that succeeded."""
    faults = []
    numbers = [event.sequence for event in events]
    if numbers != list(range(1, len(events) + 1)):
        faults.append("sequence numbers have gaps or doubles")
    for turn in {event.turn for event in events}:
        faults += [f"{turn}: {fault}" for fault in _faults_of_turn([e for e in events if e.turn == turn])]
    return faults


def _faults_of_turn(events: Sequence[event_pb2.Event]) -> list[str]:
    kinds = [str(event.WhichOneof("kind")) for event in events]
    faults = []
    if kinds[0] != "turn_queued":
        faults.append("does not begin with turn_queued")
    if kinds.count("turn_finished") != 1 or kinds[-1] != "turn_finished":
        faults.append(f"does not end with its one turn_finished: {kinds}")
    if kinds.count("turn_started") > 1:
        faults.append("was started more than once")
    doubles = [key for key, count in Counter(_steps(events)).items() if count > 1]
    if doubles:
        faults.append(f"logged twice: {doubles}")
    if events[-1].turn_finished.outcome == turn_pb2.TURN_STATE_SUCCEEDED:
        used = [event.tool_use.id for event in events if event.HasField("tool_use")]
        done = [event.tool_result.tool_use_id for event in events if event.HasField("tool_result")]
        if used != done or used != [f"t{number}" for number in range(len(used))]:
            faults.append(f"lost steps: {used} {done}")
        if f"{len(used)} steps" != events[-1].turn_finished.result:
            faults.append("lost steps at its end")
    return faults


def _steps(events: Sequence[event_pb2.Event]) -> list[tuple[str, str]]:
    uses = [("use", event.tool_use.id) for event in events if event.HasField("tool_use")]
    return uses + [
        ("result", event.tool_result.tool_use_id) for event in events if event.HasField("tool_result")
    ]


def faults_of_journal(journal: Sequence[tuple[float, str, str]]) -> list[str]:
    """Return what is wrong with what runners did: turns that ran twice, or two at once in a session."""
    faults = []
    starts = Counter(turn for _, step, turn in journal if step == "start")
    faults += [f"{turn}: ran {count} times" for turn, count in starts.items() if count > 1]
    running: dict[str, str] = {}
    for _, step, turn in journal:
        session = turn.partition("/turns/")[0]
        if step == "boot":
            # All that the killed one ran died with it.
            running.clear()
        elif step == "start":
            if session in running:
                faults.append(f"{turn} began while {running[session]} ran")
            running[session] = turn
        elif running.get(session) == turn:
            del running[session]
    return faults


def faults_of_requests(answers: Mapping[str, set[str]]) -> list[str]:
    """Return requests that made more than one turn."""
    return [f"request {key} made {sorted(turns)}" for key, turns in answers.items() if len(turns) != 1]
