"""Sessions as callers know them, and what they may not know."""

from __future__ import annotations

import uuid
from typing import Any

import grpc.aio
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import (
    event_pb2,
    session_service_pb2,
    transcript_service_pb2,
    turn_pb2,
    turn_service_pb2,
    workspace_service_pb2,
)
from support.session_house import Client, SessionHouse, failure_of

Session = session_service_pb2.Session


async def create(client: Client, request_id: str = "", account: str = "", **fields: Any) -> Session:
    request = session_service_pb2.CreateSessionRequest(
        account=account, request_id=request_id, session=Session(**fields)
    )
    return (await client.sessions.CreateSession(request, metadata=client.metadata, timeout=60)).session


async def listed(client: Client, account: str = "", page_size: int = 0) -> list[Session]:
    found: list[Session] = []
    token = ""
    while True:
        request = session_service_pb2.ListSessionsRequest(
            account=account, page_size=page_size, page_token=token
        )
        answer = await client.sessions.ListSessions(request, metadata=client.metadata, timeout=60)
        found += answer.sessions
        token = answer.next_page_token
        if not token:
            return found


async def test_a_session_is_made_once_per_request(house: SessionHouse) -> None:
    client = house.client()
    request_id = str(uuid.uuid4())
    first = await create(client, request_id, title="Mine", preferred_model="demo/other")
    assert (first.title, first.preferred_model) == ("Mine", "demo/other")
    assert (await create(client, request_id, title="Mine", preferred_model="demo/other")) == first
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await create(client, request_id, title="Yours")
    assert failure_of(caught.value).reason == errors_pb2.ERROR_REASON_REQUEST_ID_REUSED
    turn = await client.enqueue("say hi", first.name)
    assert turn.model == "demo/other"
    assert (await client.session(first.name)).title == "Mine"


async def test_a_template_that_does_not_exist_is_told_as_such(house: SessionHouse) -> None:
    client = house.client()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await create(client, str(uuid.uuid4()), template="templates/mine")
    assert failure_of(caught.value).reason == errors_pb2.ERROR_REASON_TEMPLATE_NOT_FOUND


async def test_sessions_are_listed_newest_activity_first_in_pages(house: SessionHouse) -> None:
    client = house.client()
    made = [await create(client, title=f"s{n}") for n in range(7)]
    turn = await client.enqueue("say hi", made[0].name)
    await client.finish(turn)
    names = [session.name for session in await listed(client, page_size=3)]
    assert names == [made[0].name, *(session.name for session in reversed(made[1:]))]
    assert [session.title for session in await listed(client, account="other")] == []


async def test_page_tokens_from_elsewhere_are_refused(house: SessionHouse) -> None:
    client = house.client()
    for _ in range(3):
        await create(client)
    request = session_service_pb2.ListSessionsRequest(page_size=1)
    token = (
        await client.sessions.ListSessions(request, metadata=client.metadata, timeout=60)
    ).next_page_token
    others = [
        (house.client(tenant="other"), session_service_pb2.ListSessionsRequest(page_token=token)),
        (client, session_service_pb2.ListSessionsRequest(page_token=token, account="default")),
        (client, session_service_pb2.ListSessionsRequest(page_token="nonsense")),
        (client, session_service_pb2.ListSessionsRequest(page_token="bnVsbA==")),
        (client, session_service_pb2.ListSessionsRequest(page_token=token[:-4])),
    ]
    for caller, wrong in others:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await caller.sessions.ListSessions(wrong, metadata=caller.metadata, timeout=60)
        assert failure_of(caught.value).reason == errors_pb2.ERROR_REASON_PAGE_TOKEN_INVALID


async def test_turns_and_events_are_listed_in_pages(house: SessionHouse) -> None:
    client = house.client()
    session = await create(client)
    turns = [await client.enqueue(f"say {n}", session.name) for n in range(5)]
    for turn in turns:
        await client.finish(turn)
    seen: list[str] = []
    token = ""
    while True:
        request = session_service_pb2.ListTurnsRequest(session=session.name, page_size=2, page_token=token)
        answer = await client.sessions.ListTurns(request, metadata=client.metadata, timeout=60)
        seen += [turn.prompt for turn in answer.turns]
        token = answer.next_page_token
        if not token:
            break
    assert seen == [f"say {n}" for n in range(5)]
    request = session_service_pb2.ListTurnsRequest(
        session=session.name, states=[turn_pb2.TURN_STATE_QUEUED, turn_pb2.TURN_STATE_RUNNING]
    )
    answer = await client.sessions.ListTurns(request, metadata=client.metadata, timeout=60)
    assert list(answer.turns) == []
    events = await client.events(session.name)
    pages: list[event_pb2.Event] = []
    token = ""
    while True:
        asked = session_service_pb2.ListEventsRequest(session=session.name, page_size=4, page_token=token)
        page = await client.sessions.ListEvents(asked, metadata=client.metadata, timeout=60)
        pages += page.events
        token = page.next_page_token
        if not token:
            break
    assert pages == events
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))


async def update(client: Client, session: Session, *paths: str) -> Session:
    request = session_service_pb2.UpdateSessionRequest(session=session, update_mask=FieldMask(paths=paths))
    return (await client.sessions.UpdateSession(request, metadata=client.metadata, timeout=60)).session


async def test_only_what_the_mask_names_is_changed(house: SessionHouse) -> None:
    client = house.client()
    session = await create(client, title="old")
    wanted = Session(name=session.name, title="new title", preferred_model="demo/other")
    assert (await update(client, wanted, "title")).preferred_model == ""
    changed = await update(client, wanted, "preferred_model")
    assert (changed.title, changed.preferred_model) == ("new title", "demo/other")
    # What somebody set is not moved by a turn that asks for another.
    await client.enqueue("say hi", session.name, model="demo/offline")
    assert (await client.session(session.name)).preferred_model == "demo/other"
    for paths in (("account",), ("title", "usage"), ()):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await update(client, wanted, *paths)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await update(client, Session(name=session.name, preferred_model="no/such"), "preferred_model")
    assert failure_of(caught.value).reason == errors_pb2.ERROR_REASON_MODEL_UNKNOWN


async def test_a_foreign_session_answers_exactly_like_a_missing_one(house: SessionHouse) -> None:
    owner = house.client(account="alice")
    turn = await owner.enqueue("say secret")
    await owner.finish(turn)
    missing_session = f"sessions/{uuid.uuid4()}"
    missing_turn = f"{missing_session}/turns/{uuid.uuid4()}"
    for stranger in (house.client(tenant="other"), house.client(account="bob")):
        foreign = await answers(stranger, turn.session, turn.name)
        missing = await answers(stranger, missing_session, missing_turn)
        assert len(foreign) == 22
        for call, answer in foreign.items():
            assert (
                answer.replace(turn.session, missing_session).replace(turn.name, missing_turn)
                == missing[call]
            )
            assert "NOT_FOUND" in answer, call
        assert await listed(stranger) == []
    assert (await owner.session(turn.session)).title == "say secret"


async def answers(client: Client, session: str, turn: str) -> dict[str, str]:
    """Return what every method that names a session says about this one."""
    s, w, t, tr = session_service_pb2, workspace_service_pb2, turn_service_pb2, transcript_service_pb2
    key = tr.TranscriptKey(session=session, project="p", transcript_id="t")
    allow = event_pb2.PERMISSION_DECISION_ALLOW
    snapshot = f"{session}/snapshots/{uuid.UUID(int=1)}"
    mask = FieldMask(paths=["title"])
    prompt_mask = FieldMask(paths=["prompt"])
    calls: list[tuple[Any, str, Any]] = [
        (client.sessions, "GetSession", s.GetSessionRequest(name=session)),
        (
            client.sessions,
            "UpdateSession",
            s.UpdateSessionRequest(session=Session(name=session), update_mask=mask),
        ),
        (client.sessions, "DeleteSession", s.DeleteSessionRequest(name=session)),
        (client.sessions, "ForkSession", s.ForkSessionRequest(name=session)),
        (client.sessions, "ListTurns", s.ListTurnsRequest(session=session)),
        (client.sessions, "GetTurn", s.GetTurnRequest(name=turn)),
        (
            client.sessions,
            "UpdateTurn",
            s.UpdateTurnRequest(turn=turn_pb2.Turn(name=turn, prompt="x"), update_mask=prompt_mask),
        ),
        (client.sessions, "ListEvents", s.ListEventsRequest(session=session)),
        (client.sessions, "WatchEvents", s.WatchEventsRequest(session=session)),
        (client.turns, "EnqueueTurn", t.EnqueueTurnRequest(session=session, prompt="x")),
        (client.turns, "CancelTurn", t.CancelTurnRequest(name=turn)),
        (
            client.turns,
            "DecidePermission",
            t.DecidePermissionRequest(turn=turn, permission_id="p", decision=allow),
        ),
        (client.workspaces, "ListFiles", w.ListFilesRequest(session=session)),
        (client.workspaces, "ReadFile", w.ReadFileRequest(session=session, path="f")),
        (client.workspaces, "WriteFile", w.WriteFileRequest(session=session, path="f")),
        (client.workspaces, "DeleteFile", w.DeleteFileRequest(session=session, path="f")),
        (client.workspaces, "DiffWorkspace", w.DiffWorkspaceRequest(session=session)),
        (client.workspaces, "DeleteSnapshot", w.DeleteSnapshotRequest(name=snapshot)),
        (client.workspaces, "RestoreSnapshot", w.RestoreSnapshotRequest(name=snapshot)),
        (client.transcripts, "AppendEntries", tr.AppendEntriesRequest(key=key)),
        (client.transcripts, "LoadEntries", tr.LoadEntriesRequest(key=key)),
        (client.transcripts, "ListTranscripts", tr.ListTranscriptsRequest(session=session)),
    ]
    said = {}
    for stub, method, request in calls:
        call = getattr(stub, method)(request, metadata=client.metadata, timeout=60)
        try:
            if hasattr(call, "read"):
                await call.read()
            else:
                await call
            said[method] = "OK"
        except grpc.aio.AioRpcError as error:
            said[method] = f"{error.code().name} {failure_of(error)} {failure_of(error).metadata}"
    return said


async def test_a_pinned_caller_cannot_ask_for_another_account(house: SessionHouse) -> None:
    pinned = house.client(account="alice")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await create(pinned, account="bob")
    assert failure_of(caught.value).reason == errors_pb2.ERROR_REASON_ACCOUNT_PINNED
    assert (await create(pinned, account="ALICE")).account == "alice"
    assert (await create(pinned)).account == "alice"


async def test_bad_requests_name_the_field(house: SessionHouse) -> None:
    client = house.client()
    cases: list[tuple[dict[str, Any], str]] = [
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * (1024 * 1024 + 1)}, "prompt"),
        ({"prompt": "x", "session": "sessions/../etc"}, "session"),
        ({"prompt": "x", "account": "-rf"}, "account"),
        ({"prompt": "x", "account": "a" * 64}, "account"),
        ({"prompt": "x", "request_id": "not-a-uuid"}, "request_id"),
        ({"prompt": "x", "options": turn_pb2.TurnOptions(max_turns=0)}, "options.max_turns"),
    ]
    for fields, field in cases:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.enqueue(**fields)
        failure = failure_of(caught.value)
        assert failure.reason == errors_pb2.ERROR_REASON_INVALID_FIELD
        assert failure.fields[0][0] == field
    assert await listed(client) == []


async def test_long_prompts_fit_into_pages_and_sessions(house: SessionHouse) -> None:
    client = house.client()
    session = await create(client)
    turns = [await client.enqueue("say " + "x" * 1_000_000, session.name) for _ in range(6)]
    for turn in turns:
        await client.finish(turn)
    assert len((await client.session(session.name)).messages) == 2
    events = await client.events(session.name)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    names: list[str] = []
    token = ""
    while True:
        request = session_service_pb2.ListTurnsRequest(session=session.name, page_token=token)
        answer = await client.sessions.ListTurns(request, metadata=client.metadata, timeout=60)
        names += [turn.name for turn in answer.turns]
        token = answer.next_page_token
        if not token:
            break
    assert names == [turn.name for turn in turns]


async def test_nul_and_other_odd_text_survives(house: SessionHouse) -> None:
    client = house.client()
    odd = "say a\0b \u202e right \U0001f600 \x07"
    turn = await client.enqueue(odd)
    assert (await client.finish(turn)).result == odd.removeprefix("say ")
    assert (await client.turn(turn.name)).prompt == odd
    assert (await client.session(turn.session)).messages[0].content == odd
