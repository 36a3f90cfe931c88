"""How many values a line has is told without making them, and in time, whatever the line is."""

from __future__ import annotations

import json
import time

import pytest
from runner.agent.stdio import _has_more_values

LIMIT = 200_000
MANY = 8_000_000


@pytest.mark.parametrize(
    "line",
    [
        b'{"a":[' + b"[]," * MANY + b"[]]}",
        b'{"a":[' + b'"",' * MANY + b'""]}',
        b'{"a":[' + b"0," * MANY + b"0]}",
    ],
    ids=["lists", "strings", "numbers"],
)
def test_a_line_of_millions_of_values_is_told_at_once(line: bytes) -> None:
    began = time.process_time()
    assert _has_more_values(line, LIMIT)
    # Milliseconds; taking the strings out first took eleven seconds. What others run beside does not count.
    assert time.process_time() - began < 3


def test_a_large_file_is_one_value() -> None:
    text = 'print("a", [1, 2], {"b": 3})\n' * 300_000
    assert not _has_more_values(json.dumps({"content": text}).encode(), LIMIT)
