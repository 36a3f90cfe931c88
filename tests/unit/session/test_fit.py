"""Messages are cut until they fit, and say so."""

from __future__ import annotations

import pytest
from pointsman.session.v1 import event_pb2, session_service_pb2, turn_pb2
from session.fit import fit

MIB = 1024 * 1024


def test_what_fits_is_left_alone():
    event = event_pb2.Event(turn_finished=turn_pb2.TurnFinished(result="x" * MIB))
    before = event.SerializeToString()
    assert fit(event, 2 * MIB).SerializeToString() == before


@pytest.mark.parametrize("letter", ["x", "\u00e4", "\U0001f600"])
def test_a_long_text_is_cut_at_a_character_and_says_so(letter):
    finished = turn_pb2.TurnFinished(result=letter * (6 * MIB // len(letter.encode())))
    fit(finished, 2 * MIB)
    assert finished.ByteSize() <= 2 * MIB
    assert finished.result.endswith(f"of {6 * MIB} bytes]")
    assert finished.result.startswith(letter * 1000)


def test_structured_output_and_options_are_cut_too():
    finished = turn_pb2.TurnFinished()
    finished.structured_output.update({"list": ["x" * MIB] * 8, "deep": {"text": "y" * MIB}})
    assert fit(finished, 2 * MIB).ByteSize() <= 2 * MIB
    options = turn_pb2.TurnOptions()
    for number in range(32):
        options.agents[f"agent-{number}"].prompt = "x" * 262144
    view = turn_pb2.Turn(name="sessions/a/turns/b", prompt="x" * MIB, options=options)
    assert fit(view, 3 * MIB).ByteSize() <= 3 * MIB
    assert view.name == "sessions/a/turns/b"


def test_many_small_things_are_fewer():
    view = session_service_pb2.Session(session_files=[f"{number:060}" for number in range(100_000)])
    assert fit(view, 3 * MIB).ByteSize() <= 3 * MIB
    assert view.session_files[0] == f"{0:060}"
    finished = turn_pb2.TurnFinished()
    finished.structured_output.update({str(number): number for number in range(200_000)})
    assert fit(finished, 2 * MIB).ByteSize() <= 2 * MIB


def test_cutting_twice_changes_nothing_more():
    finished = fit(turn_pb2.TurnFinished(result="x" * (6 * MIB)), 2 * MIB)
    once = finished.SerializeToString()
    assert fit(finished, 2 * MIB).SerializeToString() == once
