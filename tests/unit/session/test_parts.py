"""Small parts: titles, defaults, tokens of pages, state, and configuration."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st
from pointsman.session.v1 import event_pb2, turn_pb2
from servicekit.config import ConfigError, load
from session.config import SessionConfig
from session.options import filled_in, title_of
from session.sessions.state import AgentState

KEYS = {"POINTSMAN_PASSPORT_KEYS": "/keys/jwks.json", "POINTSMAN_PASSPORT_KEY": "/keys"}


@given(st.text(max_size=300))
def test_a_title_is_one_short_line(prompt: str) -> None:
    title = title_of(prompt)
    assert len(title) <= 80
    assert len(title.splitlines()) <= 1
    assert title == title.strip()


def test_a_title_is_the_first_line_that_says_something() -> None:
    assert title_of("\n\n  Fix   the tests\nplease") == "Fix the tests"
    assert title_of("x" * 100) == "x" * 79 + "…"
    assert title_of(" \n\t") == ""


def test_options_get_their_defaults_and_keep_what_was_asked_for() -> None:
    options = filled_in(turn_pb2.TurnOptions(timeout=Duration(nanos=5), allowed_tools=["Read"]))
    assert options.max_turns == 10
    assert options.permission_mode == turn_pb2.PERMISSION_MODE_ACCEPT_EDITS
    assert options.include_partial_messages
    assert (options.timeout.seconds, options.timeout.nanos) == (0, 5)
    assert options.permission_timeout.seconds == 3600
    assert list(options.allowed_tools) == ["Read"]
    assert not filled_in(turn_pb2.TurnOptions(include_partial_messages=False)).include_partial_messages


def test_the_state_remembers_newest_files_first_and_each_once() -> None:
    state = AgentState()
    for path in ["a", "b", "a", *(f"f{number}" for number in range(99))]:
        event = event_pb2.Event(file_change=event_pb2.FileChange(path=path))
        state.apply(event, now=1)
    assert state.files[0] == "f98"
    assert len(state.files) == 100
    assert "b" not in state.files
    assert AgentState.load(state.dump()) == state
    assert AgentState.load(b"") == AgentState()


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:////tmp/x.db", "sqlite:////tmp/x.db"),
        ("postgresql://u:p@h/n", "postgresql+asyncpg://u:p@h/n"),
        ("postgres://h/n", "postgresql+asyncpg://h/n"),
    ],
)
def test_database_urls_get_our_drivers(url: str, driver: str) -> None:
    assert load(SessionConfig, KEYS | {"DATABASE_URL": url}).database == driver


@pytest.mark.parametrize("url", ["nonsense", "mysql://h/n", "sqlite://"])
def test_a_database_that_cannot_be_used_is_refused_by_name(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^DATABASE_URL: "):
        load(SessionConfig, KEYS | {"DATABASE_URL": url})


@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_numbers_that_make_no_sense_are_refused_by_name(value: str) -> None:
    with pytest.raises(ConfigError, match=r"^POINTSMAN_MAX_QUEUED_TURNS: "):
        load(SessionConfig, KEYS | {"POINTSMAN_MAX_QUEUED_TURNS": value})
