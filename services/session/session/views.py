"""Rows as the messages that callers see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pointsman.session.v1 import session_service_pb2, template_service_pb2, turn_pb2

from session import names
from session.clock import timestamp
from session.fit import EVENT_BYTES, VIEW_BYTES, fit
from session.sessions.state import AgentState
from session.storage.rows import SessionRow, TemplateRow, TurnRow
from session.storage.tables import QUEUED

WORKSPACE: Final = "/workspace"
# Of a message's 4 MiB: the longest prompt with its answer, or many short ones.
_MESSAGES_BYTES: Final = 2 * 1024 * 1024


def turn_view(turn: TurnRow, position: int = 0) -> turn_pb2.Turn:
    """Return a turn as callers see it; `position` is its place in its account's queue while it waits."""
    view = turn_pb2.Turn(
        name=turn.name,
        session=names.session_name(turn.session_id),
        account=turn.account,
        request_id=turn.request_id,
        prompt=turn.prompt.decode(),
        model=turn.model,
        state=turn_pb2.TurnState.ValueType(turn.state),
        route=turn_pb2.TurnRoute.ValueType(turn.route),
        position=position if turn.state == QUEUED else 0,
        options=turn.turn_options,
        create_time=timestamp(turn.create_time),
        start_time=timestamp(turn.start_time),
        end_time=timestamp(turn.end_time),
        first_sequence=turn.first_sequence,
        last_sequence=turn.last_sequence,
        usage=turn_pb2.Usage.FromString(turn.usage),
        principal=turn.principal,
    )
    if turn.result:
        view.result.ParseFromString(turn.result)
        fit(view.result, EVENT_BYTES)
    return fit(view, VIEW_BYTES)


def session_view(
    session: SessionRow,
    sandbox: session_service_pb2.SandboxStatus,
    running: str = "",
    queued: int = 0,
    messages: Sequence[session_service_pb2.Message] = (),
) -> session_service_pb2.Session:
    """Return a session as callers see it; `running` is the id of the turn that runs."""
    state, settings = AgentState.load(session.agent_state), session.sandbox
    view = session_service_pb2.Session(
        name=session.name,
        account=session.account,
        title=session.title.decode(),
        preferred_model=session.preferred_model,
        create_time=timestamp(session.create_time),
        last_activity_time=timestamp(session.last_activity_time),
        running_turn=names.turn_name(session.id, running) if running else "",
        queued_turns=queued,
        last_sequence=session.last_sequence,
        first_sequence=session.first_sequence,
        workspace_path=WORKSPACE,
        last_command=state.last_command,
        session_files=state.files,
        active_tools=state.tools.values(),
        sandbox=sandbox,
        usage=turn_pb2.Usage.FromString(session.usage),
        messages=messages,
        forked_from=session.forked_from,
        template=session.template,
        shared_folders=settings.shared_folders,
        egress_hosts=settings.egress_hosts,
        default_options=session.default_options if session.turn_options else None,
    )
    return fit(view, VIEW_BYTES)


def template_view(row: TemplateRow) -> template_service_pb2.Template:
    """Return a template as callers see it."""
    view = template_service_pb2.Template(
        name=names.template_name(row.name),
        account=row.account,
        title=row.title.decode(),
        description=row.description.decode(),
        preferred_model=row.preferred_model,
        options=turn_pb2.TurnOptions.FromString(row.turn_options) if row.turn_options else None,
        egress_hosts=row.egress_hosts,
        create_time=timestamp(row.create_time),
        size_bytes=row.size_bytes,
    )
    return fit(view, VIEW_BYTES)


def messages_view(newest: Sequence[TurnRow]) -> list[session_service_pb2.Message]:
    """Return what was said in turns, which come newest first and go oldest first.

    Each has its prompt, and its answer or why there is none. The oldest are left out when it is too much.
    """
    exchanges: list[list[session_service_pb2.Message]] = []
    room = _MESSAGES_BYTES
    for turn in newest:
        exchange = _exchange(turn)
        room -= sum(message.ByteSize() for message in exchange)
        if room < 0 and exchanges:
            break
        exchanges.append(exchange)
    return [message for exchange in reversed(exchanges) for message in exchange]


def _exchange(turn: TurnRow) -> list[session_service_pb2.Message]:
    messages = [_message(turn, session_service_pb2.ROLE_USER, turn.prompt.decode(), turn.create_time)]
    if turn.over:
        finished = turn_pb2.TurnFinished.FromString(turn.result)
        failed = finished.HasField("error") and not finished.result
        said = finished.error.message if failed else finished.result
        answer = _message(turn, session_service_pb2.ROLE_ASSISTANT, said, turn.end_time)
        answer.type = "error" if failed else "result"
        messages.append(answer)
    return messages


def _message(
    turn: TurnRow, role: session_service_pb2.Role.ValueType, content: str, time: int
) -> session_service_pb2.Message:
    place = "prompt" if role == session_service_pb2.ROLE_USER else "answer"
    return session_service_pb2.Message(
        turn=turn.name,
        role=role,
        content=content,
        create_time=timestamp(time),
        id=f"{turn.id}/{place}",
        type="result",
    )
