"""Transcript lines of any length come back as they were, and what cannot be kept says so."""

from __future__ import annotations

import json
from typing import Any

import pytest
from runner.agent.long_lines import PART_BYTES, cut, entries_of, joined


def line(size: int, session: str = "s", **more: Any) -> bytes:
    return json.dumps({"sessionId": session, "text": "ä" * size, **more}, separators=(",", ":")).encode()


@pytest.mark.parametrize("size", [1, 100, 300_000, 5_000_000])
@pytest.mark.parametrize("line_uuid", ["u1", ""])
def test_a_line_of_any_length_comes_back(size: int, line_uuid: str) -> None:
    wanted = [line(3), line(size), line(4)]
    kept = [entry for each in wanted for entry in entries_of(each, line_uuid)]
    assert all(len(entry.json) <= PART_BYTES + 100 for entry in kept)
    ids = [entry.uuid for entry in entries_of(wanted[1], "u1")]
    assert len(set(ids)) == len(ids)
    assert joined([entry.json for entry in kept], "s") == wanted


def test_a_second_try_of_a_line_is_one_line() -> None:
    wanted = line(1_000_000)
    first, again = ([entry.json for entry in entries_of(wanted, "")] for _ in range(2))
    assert joined([*first[:-1], *again, line(1)], "s") == [wanted, line(1)]


def test_a_line_that_was_cut_off_is_left_out_and_the_others_stay() -> None:
    parts = [entry.json for entry in entries_of(line(1_000_000), "u")]
    assert joined([line(1), *parts[:-1], line(2)], "s") == [line(1), line(2)]
    assert joined([line(1), *parts[1:], line(2)], "s") == [line(1), line(2)]


def test_a_line_that_was_copied_from_another_session_is_of_this_one() -> None:
    parts = [entry.json for entry in entries_of(line(1_000_000, "other"), "u")]
    (found,) = joined(parts, "s")
    assert json.loads(found)["sessionId"] == "s"


def test_what_cannot_be_kept_is_a_note_in_its_place() -> None:
    document = {
        "type": "document",
        "source": {"type": "base64", "media_type": "application/pdf", "data": "A" * 99_999},
    }
    entry = {
        "uuid": "u",
        "message": {"content": [{"type": "tool_result", "content": [document]}]},
        "more": "b" * 99_999,
    }
    small = cut(entry)
    assert small["uuid"] == "u"
    (left,) = small["message"]["content"][0]["content"]
    assert left["type"] == "text"
    assert left["text"].startswith("[A document of 99999 characters was here.")
    assert len(json.dumps(small)) < 20_000
    assert cut({"a": ["short", 1, None]}) == {"a": ["short", 1, None]}
