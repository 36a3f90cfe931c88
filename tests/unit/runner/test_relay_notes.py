"""Notes in a stream are taken out wherever it is cut; everything else passes byte by byte."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from runner.relay.relay_notes import NoteFilter

EVENT = b'event: content_block_delta\ndata: {"text": ": pointsman-usage {}"}\n\n'
USAGE = b': pointsman-usage {"model":"m","input_tokens":1}\n\n'
RETRY = b': pointsman-retry {"attempt":1}\n\n'
OTHER = b": ping\n\n: pointsman-other {}\n\n: pointsmanly\n"
ERROR = b': pointsman-error {"reason":"INTERNAL","metadata":{}}\n\n'
STREAM = RETRY + EVENT + OTHER + EVENT + USAGE + ERROR


def filtered(chunks: list[bytes]) -> tuple[bytes, list[tuple[str, Mapping[str, Any]]]]:
    notes: list[tuple[str, Mapping[str, Any]]] = []
    notefilter = NoteFilter(lambda kind, values: notes.append((kind, values)))
    passed = b"".join(notefilter.feed(chunk) for chunk in chunks) + notefilter.end()
    return passed, notes


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_however_it_is_cut_the_notes_are_out_and_the_rest_is_there(cuts: list[int]) -> None:
    at = [0, *sorted(cuts), len(STREAM)]
    chunks = [STREAM[start:end] for start, end in pairwise(at)]
    passed, notes = filtered(chunks)
    assert passed.replace(b"\n", b"") == (EVENT + OTHER + EVENT).replace(b"\n", b"")
    assert [kind for kind, _ in notes] == ["retry", "usage", "error"]
    assert notes[1][1] == {"model": "m", "input_tokens": 1}


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_bytes_of_any_kind_pass_unchanged(chunks: list[bytes]) -> None:
    passed, _ = filtered(chunks)
    assert passed == b"".join(chunks)


def test_a_line_that_begins_like_a_note_and_never_ends_is_not_held_for_ever() -> None:
    notefilter = NoteFilter(lambda kind, values: None)
    passed = b"".join(notefilter.feed(chunk) for chunk in [b": pointsman-usage {", *[b"x" * 1000] * 50])
    assert len(passed) > 40_000
