"""How a turn ended: from the agent's last message, or from the way its sandbox died, to one typed outcome."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from claude_agent_sdk import ProcessError, ResultMessage
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import turn_pb2
from servicekit.errors import Failure
from servicekit.output_schema import fault_of

from runner.agent.endings import Said, result_failure
from runner.agent.stdio import OutputLimitReached, ProtocolBroken
from runner.bounded import bounded_text, clean
from runner.sandboxes.protocol import MIB
from runner.turns.turn_log import DELTA_BYTES, LOG_BYTES

RESULT_BYTES: Final = 1024 * 1024
"""Of the final answer."""

_GAVE_UP: Final = "error_max_structured_output_retries"


@dataclass(frozen=True)
class Outcome:
    """How a turn ended. `failure` is None when it succeeded."""

    result: str = ""
    structured_output: Struct | None = None
    failure: Failure | None = None

    @property
    def state(self) -> turn_pb2.TurnState.ValueType:
        """The turn's terminal state."""
        if self.failure is None:
            return turn_pb2.TURN_STATE_SUCCEEDED
        if self.failure.reason == errors_pb2.ERROR_REASON_TURN_CANCELLED:
            return turn_pb2.TURN_STATE_CANCELLED
        if self.failure.reason == errors_pb2.ERROR_REASON_TURN_INTERRUPTED:
            return turn_pb2.TURN_STATE_INTERRUPTED
        return turn_pb2.TURN_STATE_FAILED


def outcome_of(
    message: ResultMessage, *, refusal: Failure | None, model: str, said: Said, schema: str
) -> Outcome:
    """Read the agent's result. `refusal` is what the relay last saw llm-proxy refuse in this turn.

    `schema` is the one that the answer has to fit, as JSON; '' for none.
    """
    if schema and message.subtype == _GAVE_UP:
        return Outcome(failure=_schema_not_met("the agent tried several times and gave up"))
    failure = result_failure(message, refusal=refusal, model=model, error=said.error)
    if failure is None:
        text = bounded_text(clean(message.result), RESULT_BYTES)[0]
        if not schema:
            return Outcome(result=text)
        answer = _structured(message.structured_output)
        fault = "it is missing" if answer is None else fault_of(json.loads(schema), message.structured_output)
        if fault:
            return Outcome(result=text, failure=_schema_not_met(fault))
        return Outcome(result=text, structured_output=answer)
    # The agent's own result is its error message, which is in the failure.
    return Outcome(result=bounded_text(said.answer, RESULT_BYTES)[0], failure=failure)


def _structured(value: Any) -> Struct | None:
    if not isinstance(value, dict):
        return None
    try:
        return json_format.ParseDict(json.loads(json.dumps(value)), Struct())
    except (ValueError, RecursionError, json_format.ParseError):
        return None


def _schema_not_met(fault: str) -> Failure:
    said = bounded_text(clean(fault), 1024)[0]
    return Failure(
        errors_pb2.ERROR_REASON_OUTPUT_SCHEMA_NOT_MET,
        f"The answer does not fit output_schema: {said}. Ask again, say in the prompt what the answer has to "
        "hold, or use a schema that is easier to meet.",
        fault=said,
    )


def death_failure(cause: BaseException | None, exit_code: int | None) -> Failure:
    """Return why a sandbox that ended by itself did so."""
    if isinstance(cause, OutputLimitReached):
        return output_limit(str(cause))
    if cause is None or isinstance(cause, ProcessError):
        code = exit_code if exit_code is not None else getattr(cause, "exit_code", None)
        return Failure(
            errors_pb2.ERROR_REASON_SANDBOX_CRASHED,
            "The sandbox's process ended in the middle of the turn. Its files are kept; the next turn gets a "
            "fresh sandbox.",
            exit_code=str(code),
        )
    return Failure(
        errors_pb2.ERROR_REASON_SANDBOX_PROTOCOL,
        f"The sandbox sent something that is not the agent's protocol ({_what(cause)}), so it was ended. Its "
        "files are kept; the next turn gets a fresh sandbox.",
    )


def out_of_memory() -> Failure:
    """Return the failure of a sandbox that used more memory than it has."""
    return Failure(
        errors_pb2.ERROR_REASON_SANDBOX_OUT_OF_MEMORY,
        "The sandbox used more memory than its instance type has. Its files are kept; the next turn gets a "
        "fresh sandbox.",
    )


def output_limit(limit: str = "") -> Failure:
    """Return the failure of a turn that put out too much. `limit` is a sentence that names it.

    Without one it is what a turn's events may have.
    """
    limit = limit or (
        f"All events of one turn may have {LOG_BYTES // MIB} MiB, and the text that is being written "
        f"{DELTA_BYTES // MIB} MiB."
    )
    return Failure(
        errors_pb2.ERROR_REASON_OUTPUT_LIMIT,
        f"The agent put out more than it may, so the turn was ended. {limit} What it did so far is kept. Ask "
        "for less at once, or let the agent write into files.",
    )


def _what(cause: BaseException) -> str:
    """Say what was wrong: in our words, or by the kind of what could not be read, never in the sandbox's."""
    return str(cause) if isinstance(cause, ProtocolBroken) else type(cause).__name__


def cancelled() -> Failure:
    """Return the failure of a turn that somebody cancelled."""
    return Failure(errors_pb2.ERROR_REASON_TURN_CANCELLED, "The turn was cancelled.")


def timed_out(seconds: float) -> Failure:
    """Return the failure of a turn that ran into its deadline."""
    return Failure(
        errors_pb2.ERROR_REASON_TURN_TIMED_OUT,
        f"The turn ran longer than its deadline of {seconds:g} seconds. Give it a larger timeout, or ask for "
        "less.",
    )
