"""Options of a template that was made before a rule are checked when a turn takes them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pointsman.session.v1 import turn_pb2, turn_service_pb2
from servicekit.errors import Failure
from session.queue.wanted import options_of


def session_with(options: turn_pb2.TurnOptions) -> Any:
    return SimpleNamespace(turn_options=options.SerializeToString(), default_options=options)


def test_a_stored_item_that_is_several_is_refused():
    stored = turn_pb2.TurnOptions(allowed_tools=["Read,Bash"])
    with pytest.raises(Failure) as raised:
        options_of(turn_service_pb2.EnqueueTurnRequest(), session_with(stored))
    assert raised.value.reason_name == "INVALID_FIELD"
    assert raised.value.fields[0][0] == "allowed_tools[0]"


def test_a_turn_that_says_otherwise_does_not_take_it():
    stored = turn_pb2.TurnOptions(allowed_tools=["Read,Bash"], max_turns=3)
    asked = turn_service_pb2.EnqueueTurnRequest(options=turn_pb2.TurnOptions(allowed_tools=["Read"]))
    taken = options_of(asked, session_with(stored))
    assert (list(taken.allowed_tools), taken.max_turns) == (["Read"], 3)
