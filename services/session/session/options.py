"""Defaults of what callers may leave out of a turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from pointsman.session.v1 import turn_pb2
from servicekit.output_schema import check_schema

INHERIT: Final = "inherit"
"""The agent SDK's word for the model of the turn."""

_TITLE_CHARACTERS: Final = 80
# Only as much of a prompt is looked at as a title can use.
_LOOKED_AT: Final = 4096
_HOUR: Final = Duration(seconds=3600)


def filled_in(*asked: turn_pb2.TurnOptions) -> turn_pb2.TurnOptions:
    """Return options as the first one has them that says something, with the documented defaults else.

    A field is taken whole: lists are not joined, nor a timeout's seconds with another one's nanos.
    """
    options = turn_pb2.TurnOptions(
        max_turns=10,
        permission_mode=turn_pb2.PERMISSION_MODE_ACCEPT_EDITS,
        include_partial_messages=True,
        timeout=_HOUR,
        permission_timeout=_HOUR,
    )
    for said in reversed(asked):
        for field, _ in said.ListFields():
            options.ClearField(field.name)  # type: ignore[arg-type]
        options.MergeFrom(said)
    return options


def check_options(options: turn_pb2.TurnOptions) -> None:
    """Raise Failure INVALID_FIELD for options that no turn can keep."""
    if options.HasField("output_schema") and options.output_schema.fields:
        check_schema(json_format.MessageToDict(options.output_schema))


def helper_models(options: turn_pb2.TurnOptions) -> list[tuple[str, str]]:
    """Return the models that helpers name, each after the field that it stands in."""
    return [
        (f"options.agents[{name}].model", agent.model)
        for name, agent in sorted(options.agents.items())
        if agent.model not in ("", INHERIT)
    ]


def resolve_helpers(options: turn_pb2.TurnOptions, model_of: Callable[[str], str]) -> None:
    """Write the model that each helper's name stands for; a helper that inherits has the turn's."""
    for agent in options.agents.values():
        agent.model = "" if agent.model in ("", INHERIT) else model_of(agent.model)


def title_of(prompt: str) -> str:
    """Return a line for people: the prompt's first, not too long."""
    words = " ".join("".join(c if c.isprintable() else " " for c in _first_line(prompt)).split())
    return words if len(words) <= _TITLE_CHARACTERS else words[: _TITLE_CHARACTERS - 1].rstrip() + "…"


def _first_line(prompt: str) -> str:
    return next((line for line in prompt[:_LOOKED_AT].splitlines() if line.strip()), "")
