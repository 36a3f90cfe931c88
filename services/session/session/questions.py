"""Answers to the agent's questions (tool `AskUserQuestion`): complete, and in the shape that it reads."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from pointsman.session.v1 import event_pb2
from servicekit.errors import Failure

from session.refusals import invalid_field

QUESTION_TOOL: Final = "AskUserQuestion"
_ALLOWS: Final = (
    event_pb2.PERMISSION_DECISION_ALLOW,
    event_pb2.PERMISSION_DECISION_ALLOW_FOR_SESSION,
)
_ANSWERS: Final = "updated_input.answers"
_SHOWN: Final = 100


def check_answers(asked: Struct, decided: event_pb2.PermissionDecided) -> None:
    """Refuse an answer that leaves a question open; put the questions into one that leaves them out.

    `asked` is the input of the request. An answer is a text, or a list of texts where several may be chosen.
    A denial needs no answers. Raises Failure INVALID_FIELD.
    """
    if decided.decision not in _ALLOWS:
        return
    questions = [_text(question) for question in _questions(asked)]
    if not questions:
        return
    given = json_format.MessageToDict(decided.updated_input).get("answers")
    if not isinstance(given, dict):
        raise _refused(
            "must be an object with an answer to each question, by the question's text: "
            f"{_listed(questions)}. To answer none of them, deny the request with a message"
        )
    unknown = sorted(given.keys() - set(questions))
    if unknown:
        raise _refused(f"{_listed(unknown)} was not asked; the questions are: {_listed(questions)}")
    missing = [question for question in questions if not _is_answer(given.get(question))]
    if missing:
        raise _refused(f"has no answer to: {_listed(missing)}. An answer is a text, or a list of texts")
    if "questions" not in decided.updated_input.fields:
        decided.updated_input.fields["questions"].CopyFrom(asked.fields["questions"])


def _questions(asked: Struct) -> list[Any]:
    questions = json_format.MessageToDict(asked).get("questions")
    return questions if isinstance(questions, list) else []


def _text(question: Any) -> str:
    return str(question.get("question", "")) if isinstance(question, dict) else ""


def _is_answer(given: Any) -> bool:
    texts = given if isinstance(given, list) else [given]
    return bool(texts) and all(isinstance(text, str) and text.strip() for text in texts)


def _listed(questions: list[str]) -> str:
    return ", ".join(repr(question[:_SHOWN]) for question in questions[:4])


def _refused(rule: str) -> Failure:
    return invalid_field(_ANSWERS, rule)
