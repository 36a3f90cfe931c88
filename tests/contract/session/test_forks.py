"""Forks, deletion and files: a session as a whole."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path

import grpc.aio
import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import (
    session_service_pb2,
    transcript_service_pb2,
    turn_pb2,
    workspace_service_pb2,
)
from servicekit.testing import wait_until
from support.session_house import Client, SessionHouse, failure_of, session_house

Session = session_service_pb2.Session
ws = workspace_service_pb2


async def fork(
    client: Client, session: str, turn: str = "", request_id: str = "", title: str = ""
) -> Session:
    request = session_service_pb2.ForkSessionRequest(
        name=session, turn=turn, request_id=request_id, title=title
    )
    return (await client.sessions.ForkSession(request, metadata=client.metadata, timeout=60)).session


async def remember(client: Client, session: str, text: str) -> None:
    key = transcript_service_pb2.TranscriptKey(session=session, project="p", transcript_id=session[9:])
    line = json.dumps({"uuid": str(uuid.uuid4()), "sessionId": session[9:], "text": text}).encode()
    entry = transcript_service_pb2.TranscriptEntry(uuid=json.loads(line)["uuid"], json=line)
    request = transcript_service_pb2.AppendEntriesRequest(key=key, entries=[entry])
    await client.transcripts.AppendEntries(request, metadata=client.metadata, timeout=60)


async def remembered(client: Client, session: str) -> list[dict[str, str]]:
    key = transcript_service_pb2.TranscriptKey(session=session, project="p", transcript_id=session[9:])
    request = transcript_service_pb2.LoadEntriesRequest(key=key)
    call = client.transcripts.LoadEntries(request, metadata=client.metadata, timeout=60)
    return [json.loads(entry.json) async for piece in call for entry in piece.entries]


async def worked(house: SessionHouse, turns: int = 3) -> list[turn_pb2.Turn]:
    """Run turns that change files, with a transcript."""
    client = house.client()
    done: list[turn_pb2.Turn] = []
    for number in range(turns):
        turn = await client.enqueue("work", done[0].session if done else "")
        await client.finish(turn)
        await remember(client, turn.session, f"turn {number}")
        done.append(turn)
    await wait_until(lambda: len(house.runner.snapshots) == turns)
    return done


async def test_a_fork_goes_on_from_any_finished_turn_with_conversation_and_files(house: SessionHouse) -> None:
    client = house.client()
    turns = await worked(house)
    copy = await fork(client, turns[0].session, turns[1].name, title="Other way")
    assert copy.name != turns[0].session
    assert (copy.forked_from, copy.title, copy.account) == (turns[1].name, "Other way", "default")
    assert [message.content for message in copy.messages] == ["work", "done"] * 2
    assert house.runner.restored == [(copy.name, turns[1].name.rpartition("/")[2])]
    assert house.runner.snapshots[house.runner.restored[0][1]] == turns[0].session
    lines = await remembered(client, copy.name)
    assert [line["text"] for line in lines] == ["turn 0", "turn 1"]
    assert {line["sessionId"] for line in lines} == {copy.name[9:]}
    events = await client.events(copy.name)
    assert [event.sequence for event in events] == list(range(1, 21))
    assert all(event.turn.startswith(copy.name) for event in events)
    # Both go on by themselves.
    again = await client.enqueue("say forked", copy.name)
    assert (await client.finish(again)).result == "forked"
    assert len((await client.session(turns[0].session)).messages) == 6


async def test_the_newest_turn_can_be_forked_at_once(house: SessionHouse) -> None:
    client = house.client()
    turn = await client.enqueue("work")
    await client.finish(turn)
    copy = await fork(client, turn.session)
    assert copy.forked_from == turn.name
    assert len(house.runner.restored) == 1


async def test_a_turn_that_changed_nothing_shares_the_files_before_it(house: SessionHouse) -> None:
    client = house.client()
    turns = await worked(house, 1)
    talk = await client.enqueue("say something", turns[0].session)
    await client.finish(talk)
    await client.finish(await client.enqueue("say more", turns[0].session))
    copy = await fork(client, turns[0].session, talk.name)
    assert copy.forked_from == talk.name
    assert house.runner.restored == [(copy.name, turns[0].name.rpartition("/")[2])]
    # The turn's, and the one that the fork begins with.
    assert len(house.runner.snapshots) == 2


async def test_a_fork_of_the_newest_turn_has_the_files_of_now(house: SessionHouse) -> None:
    client = house.client()
    turns = await worked(house, 1)
    for name in ("", turns[0].name):
        copy = await fork(client, turns[0].session, name)
        (forked, origin) = house.runner.restored[-1]
        assert forked == copy.name
        assert origin != turns[0].name.rpartition("/")[2]
        # What was kept for the fork is dropped: there are the turn's and those that forks begin with.
        assert origin not in house.runner.snapshots
    assert len(house.runner.snapshots) == 3
    listed = await client.workspaces.ListSnapshots(
        ws.ListSnapshotsRequest(session=turns[0].session), metadata=client.metadata, timeout=60
    )
    assert list(listed.snapshots) == []


async def test_a_file_written_while_a_turn_is_kept_is_in_what_the_next_one_leaves(
    house: SessionHouse,
) -> None:
    client = house.client()
    house.runner.may_pack.clear()
    first = await client.enqueue("work")
    await client.finish(first)
    await wait_until(lambda: house.runner.packing == 1)
    request = ws.WriteFileRequest(session=first.session, path="late.txt", data=b"late")
    await client.workspaces.WriteFile(request, metadata=client.metadata, timeout=60)
    house.runner.may_pack.set()
    second = await client.enqueue("say hello", first.session)
    await client.finish(second)
    await wait_until(lambda: house.runner.packing == 2)
    await wait_until(lambda: second.name.rpartition("/")[2] in house.runner.snapshots)
    await client.finish(await client.enqueue("say more", first.session))
    copy = await fork(client, first.session, second.name)
    assert house.runner.restored == [(copy.name, second.name.rpartition("/")[2])]


async def test_a_fork_is_made_once_per_request(house: SessionHouse) -> None:
    turns = await worked(house, 2)
    request_id = str(uuid.uuid4())
    clients = (house.client(), house.client(replica=-1))
    copies = await asyncio.gather(
        *(fork(clients[n % 2], turns[0].session, request_id=request_id) for n in range(10))
    )
    assert len({copy.name for copy in copies}) == 1
    assert all(len(copy.messages) == 4 for copy in copies)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await fork(clients[0], turns[0].session, turns[0].name, request_id=request_id)
    assert failure_of(caught.value).reason == errors_pb2.ERROR_REASON_REQUEST_ID_REUSED


async def test_what_cannot_be_forked_is_refused_and_leaves_nothing(house: SessionHouse) -> None:
    client = house.client()
    turn = await client.enqueue("wait")
    async for event in client.watch(turn.session, turn=turn.name):
        if event.HasField("tool_use"):
            break
    for name in (turn.name, ""):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await fork(client, turn.session, name)
        assert failure_of(caught.value).reason == errors_pb2.ERROR_REASON_TURN_NOT_FORKABLE
    other = await client.enqueue("say hi", account="other")
    await client.finish(other)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await fork(client, turn.session, other.name)
    assert failure_of(caught.value).reason == errors_pb2.ERROR_REASON_TURN_NOT_FOUND
    house.runner.turns[turn.name].released.set()
    await client.finish(turn)
    await wait_until(lambda: bool(house.runner.snapshots))
    # The other half fails: no half of it is seen.
    await client.finish(await client.enqueue("say more", turn.session))
    house.runner.snapshots.clear()
    with pytest.raises(grpc.aio.AioRpcError):
        await fork(client, turn.session, turn.name)
    answer = await client.sessions.ListSessions(
        session_service_pb2.ListSessionsRequest(), metadata=client.metadata, timeout=60
    )
    assert {session.name for session in answer.sessions} == {turn.session, other.session}


async def test_only_the_newest_workspaces_are_kept(tmp_path: Path, database_url: str) -> None:
    async with session_house(tmp_path, database_url, forkable_turns=2) as house:
        client = house.client()
        session = ""
        turns = []
        for _ in range(4):
            turns.append(await client.enqueue("work", session))
            session = turns[0].session
            await client.finish(turns[-1])
        kept = {turn.name.rpartition("/")[2] for turn in turns[2:]}
        await wait_until(lambda: set(house.runner.snapshots) == kept)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await fork(client, session, turns[0].name)
        assert failure_of(caught.value).reason == errors_pb2.ERROR_REASON_TURN_NOT_FORKABLE
        assert (await fork(client, session, turns[2].name)).forked_from == turns[2].name


async def delete(client: Client, session: str) -> None:
    request = session_service_pb2.DeleteSessionRequest(name=session)
    await client.sessions.DeleteSession(request, metadata=client.metadata, timeout=60)


async def test_a_deleted_session_is_gone_with_all_that_belongs_to_it(house: SessionHouse) -> None:
    client = house.client()
    turns = await worked(house, 2)
    watched = asyncio.create_task(_until_error(client, turns[0].session))
    other = await client.enqueue("say hi", account="other")
    await client.finish(other)
    await delete(house.client(replica=-1), turns[0].session)
    assert failure_of(await watched).reason == errors_pb2.ERROR_REASON_SESSION_DELETED
    assert set(house.runner.deleted) == {turns[0].session}
    assert house.runner.snapshots == {}
    for call in (
        delete(client, turns[0].session),
        client.session(turns[0].session),
        client.turn(turns[0].name),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert failure_of(caught.value).reason == errors_pb2.ERROR_REASON_SESSION_NOT_FOUND
    assert (await client.session(other.session)).last_sequence > 0


async def _until_error(client: Client, session: str) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in client.watch(session):
            pass
    return caught.value


async def test_deleting_during_a_turn_cancels_it_first(house: SessionHouse) -> None:
    client = house.client()
    turn = await client.enqueue("wait")
    queued = await client.enqueue("say never", turn.session)
    finished: list[turn_pb2.TurnState.ValueType] = []

    async def follow(name: str) -> None:
        async for event in client.watch(turn.session, turn=name):
            if event.HasField("turn_finished"):
                finished.append(event.turn_finished.outcome)  # noqa: PERF401 - both streams add to it

    following = [asyncio.create_task(follow(name)) for name in (turn.name, queued.name)]
    async for event in client.watch(turn.session, turn=turn.name):
        if event.HasField("tool_use"):
            break
    await delete(client, turn.session)
    await asyncio.gather(*following)
    assert finished == [turn_pb2.TURN_STATE_CANCELLED] * 2
    assert [step for _, step, _ in house.runner.journal] == ["start", "end"]


async def test_a_temporary_session_outlives_its_turn_for_a_moment(house: SessionHouse) -> None:
    client = house.client()
    turn = await client.enqueue("say hi", temporary=True)
    assert (await client.finish(turn)).result == "hi"
    assert (await client.turn(turn.name)).state == turn_pb2.TURN_STATE_SUCCEEDED


async def test_files_go_through_to_the_runner(house: SessionHouse) -> None:
    client = house.client()
    turn = await client.enqueue("say hi")
    await client.finish(turn)
    stub, metadata = client.workspaces, client.metadata
    written = await stub.WriteFile(
        ws.WriteFileRequest(session=turn.session, path="a.txt", data=b"hello"), metadata=metadata, timeout=60
    )
    assert written.file.size_bytes == 5
    call = stub.ReadFile(
        ws.ReadFileRequest(session=turn.session, path="a.txt"), metadata=metadata, timeout=60
    )
    assert b"".join([piece.data async for piece in call]) == b"hello"
    found = await stub.ListFiles(ws.ListFilesRequest(session=turn.session), metadata=metadata, timeout=60)
    assert [file.path for file in found.files] == ["a.txt"]
    diff = await stub.DiffWorkspace(
        ws.DiffWorkspaceRequest(session=turn.session), metadata=metadata, timeout=60
    )
    assert [change.path for change in diff.changes] == ["a.txt"]
    await stub.DeleteFile(
        ws.DeleteFileRequest(session=turn.session, path="a.txt"), metadata=metadata, timeout=60
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in stub.ReadFile(
            ws.ReadFileRequest(session=turn.session, path="a.txt"), metadata=metadata, timeout=60
        ):
            pass
    assert failure_of(caught.value).reason == errors_pb2.ERROR_REASON_FILE_NOT_FOUND


async def test_snapshots_are_kept_listed_and_restored(house: SessionHouse) -> None:
    client = house.client()
    turn = await client.enqueue("say hi")
    await client.finish(turn)
    stub, metadata = client.workspaces, client.metadata
    request_id = str(uuid.uuid4())
    request = ws.CreateSnapshotRequest(session=turn.session, title="before", request_id=request_id)
    made = [(await stub.CreateSnapshot(request, metadata=metadata, timeout=60)).snapshot for _ in range(2)]
    assert made[0] == made[1]
    assert (made[0].title, made[0].size_bytes) == ("before", 42)
    listed = await stub.ListSnapshots(
        ws.ListSnapshotsRequest(session=turn.session), metadata=metadata, timeout=60
    )
    assert list(listed.snapshots) == [made[0]]
    restore = ws.RestoreSnapshotRequest(name=made[0].name)
    await stub.RestoreSnapshot(restore, metadata=metadata, timeout=60)
    assert house.runner.restored[0][0] == turn.session
    busy = await client.enqueue("wait", turn.session)
    async for event in client.watch(turn.session, turn=busy.name):
        if event.HasField("tool_use"):
            break
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.RestoreSnapshot(restore, metadata=metadata, timeout=60)
    assert failure_of(caught.value).reason == errors_pb2.ERROR_REASON_TURN_RUNNING
    assert failure_of(caught.value).metadata["turn"] == busy.name
    wrong = ws.RestoreSnapshotRequest(name=f"{turn.session}/snapshots/{uuid.uuid4()}")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.RestoreSnapshot(wrong, metadata=metadata, timeout=60)
    assert failure_of(caught.value).reason == errors_pb2.ERROR_REASON_SNAPSHOT_NOT_FOUND
