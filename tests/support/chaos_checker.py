"""Judges a run of many turns under fire: what was acknowledged, what happened, and whether that is allowed.

The judgement is a pure function of what was recorded, so that it can be tested, too.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path


@dataclass
class Asked:
    """One turn as its client saw it."""

    account: str
    request_id: str
    number: int
    """Which of its account's turns it is, from 0."""
    turn: str = ""
    """Its name; empty when it was never acknowledged."""
    sequences: list[int] = field(default_factory=list)
    """Of the kept events, as they came."""
    outcome: str = ""
    """How it ended, `error:REASON` when its stream ended in a typed error, empty when it never did."""
    kinds: list[str] = field(default_factory=list)
    """Of the kept events, as they came."""
    said: str = ""
    """The message of the error that it ended with."""
    ended: float = 0.0
    """When its client knew how it ended, in seconds since the beginning."""


@dataclass(frozen=True)
class Ran:
    """One run of a turn in the runner, by its own log."""

    turn: str
    started: float
    ended: float
    finished: bool = True
    """Whether it came to its end, and was not cut off with its runner."""

    @property
    def session(self) -> str:
        """The session that it ran in."""
        return self.turn.partition("/turns/")[0]


@dataclass(frozen=True)
class Recorded:
    """What the installation says afterwards: turn names by request id, and each session's sequences."""

    turns: dict[str, list[str]]
    logs: dict[str, list[int]]


def violations(asked: Sequence[Asked], recorded: Recorded, ran: Sequence[Ran]) -> list[str]:
    """Return every broken promise, in words; empty when all were kept."""
    return [*_lost(asked, recorded), *_doubled(recorded, ran), *_overlapping(ran), *_gaps(asked, recorded)]


def _lost(asked: Sequence[Asked], recorded: Recorded) -> Iterable[str]:
    for turn in asked:
        if turn.turn and turn.turn not in recorded.turns.get(turn.request_id, []):
            yield f"lost: {turn.turn} of {turn.account} was acknowledged and is not there"
        if turn.turn and not turn.outcome:
            yield f"silent: the stream of {turn.turn} neither ended nor failed"


def _doubled(recorded: Recorded, ran: Sequence[Ran]) -> Iterable[str]:
    for request_id, names in recorded.turns.items():
        if len(names) > 1:
            yield f"doubled: request {request_id} made {len(names)} turns"
    for turn, times in Counter(run.turn for run in ran if run.finished).items():
        if times > 1:
            yield f"ran twice: {turn}"


def _overlapping(ran: Sequence[Ran]) -> Iterable[str]:
    by_session: defaultdict[str, list[Ran]] = defaultdict(list)
    for run in ran:
        by_session[run.session].append(run)
    for session, runs in by_session.items():
        runs.sort(key=lambda run: run.started)
        for before, after in itertools.pairwise(runs):
            if after.started < before.ended:
                yield f"overlap in {session}: {after.turn} began before {before.turn} ended"


def _gaps(asked: Sequence[Asked], recorded: Recorded) -> Iterable[str]:
    for session, sequences in recorded.logs.items():
        if sequences != list(range(1, len(sequences) + 1)):
            yield f"gap: the log of {session} is not 1…{len(sequences)}"
    for turn in asked:
        seen = turn.sequences
        if any(after <= before for before, after in itertools.pairwise(seen)):
            yield f"doubled or out of order: events of {turn.turn} as its client saw them"


def report(asked: Sequence[Asked], ran: Sequence[Ran]) -> list[str]:
    """Say, in a line each, how turns ended and when, and how far those had come that did not succeed."""
    got_prompt = {run.turn for run in ran}
    endings: defaultdict[str, list[float]] = defaultdict(list)
    for turn in asked:
        how = turn.outcome.removeprefix("TURN_STATE_").lower() or "no end"
        if how != "succeeded":
            how = f"{how}: {_how_far(turn, got_prompt)}: {turn.said[:60]}"
        endings[how].append(turn.ended)
    return [
        f"{len(times):5} {ending} ({_spread(times)})"
        for ending, times in sorted(endings.items(), key=lambda item: -len(item[1]))
    ]


def _spread(times: Sequence[float]) -> str:
    """Say how many fell into each ten seconds."""
    tens = Counter(int(moment // 10) for moment in times)
    return " ".join(str(tens[ten]) for ten in range(max(tens) + 1))


def _how_far(turn: Asked, got_prompt: set[str]) -> str:
    if not turn.turn:
        return "never acknowledged"
    if "tool_use" in turn.kinds:
        return "a tool had run" if "tool_result" in turn.kinds else "a tool may have run"
    if "assistant_message" in turn.kinds:
        return "it had begun to answer"
    if turn.turn in got_prompt:
        return "its agent had the prompt"
    return "it waited for its agent" if "turn_started" in turn.kinds else "it waited"


def runs_in(log: Path) -> list[Ran]:
    """Read the runner's log. A run without an end ended when the runner did: at the next one's first line."""
    runs: list[Ran] = []
    open_runs: dict[str, float] = {}
    for line in log.read_text().splitlines():
        entry = _entry(line)
        moment = _moment(entry)
        match entry.get("event"):
            case "serving":
                runs += [Ran(turn, started, moment, finished=False) for turn, started in open_runs.items()]
                open_runs.clear()
            case "turn_started":
                open_runs[entry["turn"]] = moment
            case "turn_ended" if entry["turn"] in open_runs:
                runs.append(Ran(entry["turn"], open_runs.pop(entry["turn"]), moment))
            case _:
                continue
    return runs + [Ran(turn, started, float("inf"), finished=False) for turn, started in open_runs.items()]


def _moment(entry: dict[str, str]) -> float:
    stamp = entry.get("timestamp")
    return datetime.fromisoformat(stamp).timestamp() if stamp else 0.0


def _entry(line: str) -> dict[str, str]:
    start = line.find("{")
    try:
        entry = json.loads(line[start:]) if start >= 0 else {}
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}
