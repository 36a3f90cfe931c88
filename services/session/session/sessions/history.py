"""The conversation as a model without an agent is told it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pointsman.llm.v1 import llm_service_pb2
from pointsman.session.v1 import turn_pb2

from session.runs.endings import INCOMPLETE
from session.storage.rows import TurnRow

TURNS: Final = 50
"""Turns of the conversation that are told at most."""
# About 64k tokens: what every model of today takes, with room for its answer.
_MAX_CHARACTERS: Final = 256 * 1024


def conversation(earlier: Sequence[TurnRow], turn: TurnRow) -> list[llm_service_pb2.LlmMessage]:
    """Return what was asked and answered in earlier turns (newest first), and then this turn's prompt.

    The oldest are left out when it is too much. Turns that left no answer are left out, too.
    """
    context, prompt = turn.context.decode(), turn.prompt.decode()
    exchanges = []
    room = _MAX_CHARACTERS
    for before in earlier[:TURNS]:
        asked, answered = before.prompt.decode(), _answer(before)
        room -= len(asked) + len(answered)
        if room < 0:
            break
        if answered.strip():
            exchanges.append((asked, answered))
    messages = []
    for asked, answered in reversed(exchanges):
        messages.append(_message(llm_service_pb2.MESSAGE_ROLE_USER, asked))
        messages.append(_message(llm_service_pb2.MESSAGE_ROLE_ASSISTANT, answered))
    asked = f"{context}\n\n{prompt}" if context else prompt
    return [*messages, _message(llm_service_pb2.MESSAGE_ROLE_USER, asked)]


def told(newest: Sequence[TurnRow]) -> list[turn_pb2.Turn]:
    """Return direct turns, which come newest first, as an agent is told them: oldest first, what was said.

    The oldest are left out when it is too much for a prompt.
    """
    turns: list[turn_pb2.Turn] = []
    room = _MAX_CHARACTERS
    for turn in newest:
        prompt, answer = turn.prompt.decode(), _answer(turn)
        if not answer.strip() and turn.state != turn_pb2.TURN_STATE_SUCCEEDED:
            continue
        room -= len(prompt) + len(answer)
        if room < 0:
            break
        finished = turn_pb2.TurnFinished(outcome=turn_pb2.TURN_STATE_SUCCEEDED, result=answer)
        turns.insert(0, turn_pb2.Turn(name=turn.name, prompt=prompt, result=finished))
    return turns


def _answer(turn: TurnRow) -> str:
    """Return what a turn answered, be it the beginning of an answer; empty when it left none.

    What a model or a filter stopped is not repeated to it: it would stop again.
    """
    finished = turn_pb2.TurnFinished.FromString(turn.result)
    answered = turn.state == turn_pb2.TURN_STATE_SUCCEEDED or finished.error.reason in INCOMPLETE
    return finished.result if answered else ""


def _message(role: llm_service_pb2.MessageRole.ValueType, text: str) -> llm_service_pb2.LlmMessage:
    return llm_service_pb2.LlmMessage(role=role, content=[llm_service_pb2.ContentBlock(text=text)])
