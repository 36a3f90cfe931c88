"""What a session's sandbox has beyond its workspace: shared folders, and hosts that it may reach."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable
from typing import Any

import grpc.aio
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import session_service_pb2, turn_pb2
from support.session_house import Client, SessionHouse, failure_of

Session = session_service_pb2.Session
SharedFolder = session_service_pb2.SharedFolder
SESSION_NOT_FOUND = errors_pb2.ERROR_REASON_SESSION_NOT_FOUND
INVALID_FIELD = errors_pb2.ERROR_REASON_INVALID_FIELD


def docs(of: str, path: str = "docs", name: str = "docs") -> SharedFolder:
    return SharedFolder(session=of, path=path, name=name)


async def update(client: Client, session: str, *paths: str, **fields: Any) -> Session:
    request = session_service_pb2.UpdateSessionRequest(
        session=Session(name=session, **fields), update_mask=FieldMask(paths=paths)
    )
    return (await client.sessions.UpdateSession(request, metadata=client.metadata, timeout=60)).session


async def refused(call: Awaitable[object]) -> errors_pb2.ErrorReason.ValueType:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return failure_of(caught.value).reason


async def run(client: Client, session: str) -> turn_pb2.TurnFinished:
    return await client.finish(await client.enqueue("say hi", session))


async def test_the_runner_hears_of_folders_and_hosts_from_the_next_turn_on(house: SessionHouse) -> None:
    client = house.client()
    source = await client.create()
    session = await client.create(shared_folders=[docs(source.name)], egress_hosts=["example.org"])
    assert (await client.session(session.name)) == session
    assert list(session.shared_folders) == [docs(source.name)]
    await run(client, session.name)
    sandbox = house.runner.requests[-1].sandbox
    assert list(sandbox.shared_folders) == [docs(source.name)]
    assert list(sandbox.egress_hosts) == ["example.org"]
    prepared = [asked.sandbox for asked in house.runner.prepared if asked.session == session.name]
    assert prepared and all(settings == sandbox for settings in prepared)
    other = docs(source.name, path="", name="all")
    changed = await update(client, session.name, "shared_folders", shared_folders=[other])
    # What the mask does not name stays.
    assert (list(changed.shared_folders), list(changed.egress_hosts)) == ([other], ["example.org"])
    await run(client, session.name)
    assert list(house.runner.requests[-1].sandbox.shared_folders) == [other]
    changed = await update(client, session.name, "shared_folders", "egress_hosts")
    assert (list(changed.shared_folders), list(changed.egress_hosts)) == ([], [])
    await run(client, session.name)
    assert house.runner.requests[-1].sandbox.ByteSize() == 0


async def test_only_sessions_of_the_same_account_share_and_others_are_as_if_missing(
    house: SessionHouse,
) -> None:
    client = house.client()
    session = await client.create()
    elsewhere = await client.create("else")
    foreign = await house.client(tenant="evil").create()
    for of in (elsewhere.name, foreign.name, f"sessions/{uuid.uuid4()}"):
        assert await refused(client.create(shared_folders=[docs(of)])) == SESSION_NOT_FOUND
        change = update(client, session.name, "shared_folders", shared_folders=[docs(of)])
        assert await refused(change) == SESSION_NOT_FOUND
    assert list((await client.session(session.name)).shared_folders) == []


@pytest.mark.parametrize(
    "folder",
    [
        {"name": "UP"},
        {"name": "../x"},
        {"name": ""},
        {"path": "/etc"},
        {"path": "a/../b"},
        {"path": "a//b"},
        {"path": "a\0b"},
        {"of": "sessions/x"},
    ],
)
async def test_what_is_no_folder_is_refused(one: SessionHouse, folder: dict[str, str]) -> None:
    client = one.client()
    source = await client.create()
    wanted = docs(**({"of": source.name} | folder))
    assert await refused(client.create(shared_folders=[wanted])) == INVALID_FIELD


async def test_a_session_shares_neither_itself_nor_two_folders_of_one_name(house: SessionHouse) -> None:
    client = house.client()
    session, source = await client.create(), await client.create()
    itself = update(client, session.name, "shared_folders", shared_folders=[docs(session.name)])
    assert await refused(itself) == INVALID_FIELD
    twice = [docs(source.name, "a"), docs(source.name, "b")]
    assert await refused(client.create(shared_folders=twice)) == INVALID_FIELD


async def test_turns_without_their_folders_say_so_until_they_are_changed(house: SessionHouse) -> None:
    client = house.client()
    source = await client.create()
    session = await client.create(shared_folders=[docs(source.name)])
    await run(client, session.name)
    request = session_service_pb2.DeleteSessionRequest(name=source.name)
    await client.sessions.DeleteSession(request, metadata=client.metadata, timeout=60)
    ran = len(house.runner.requests)
    finished = await run(client, session.name)
    assert finished.outcome == turn_pb2.TURN_STATE_FAILED
    assert finished.error.reason == errors_pb2.ERROR_REASON_SHARED_FOLDER_NOT_FOUND
    assert dict(finished.error.metadata) == {"session": source.name, "path": "docs", "name": "docs"}
    assert len(house.runner.requests) == ran
    # What is not there any more cannot be shared anew.
    again = update(client, session.name, "shared_folders", shared_folders=[docs(source.name)])
    assert await refused(again) == SESSION_NOT_FOUND
    await update(client, session.name, "shared_folders")
    assert (await run(client, session.name)).result == "hi"


async def test_a_host_that_the_operator_does_not_allow_is_told_at_once(house: SessionHouse) -> None:
    client = house.client()
    hosts = ["example.org", "evil.example"]
    not_allowed = errors_pb2.ERROR_REASON_EGRESS_NOT_ALLOWED
    assert await refused(client.create(egress_hosts=hosts)) == not_allowed
    request = session_service_pb2.ListSessionsRequest()
    listed = await client.sessions.ListSessions(request, metadata=client.metadata, timeout=60)
    assert list(listed.sessions) == []
    session = await client.create(egress_hosts=["example.org", "example.org"])
    assert list(session.egress_hosts) == ["example.org"]
    change = update(client, session.name, "egress_hosts", egress_hosts=hosts)
    assert await refused(change) == not_allowed
    assert list((await client.session(session.name)).egress_hosts) == ["example.org"]
    for host in ("https://example.org", "Example.org", "*", "a b", "-x.org"):
        assert await refused(client.create(egress_hosts=[host])) == INVALID_FIELD


async def test_settings_are_stored_while_the_runner_is_away(house: SessionHouse) -> None:
    client = house.client()
    session = await client.create()
    await house.stop_runner()
    changed = await update(client, session.name, "egress_hosts", egress_hosts=["example.org"])
    assert list(changed.egress_hosts) == ["example.org"]
    made = await client.create(egress_hosts=["example.org"])
    assert list(made.egress_hosts) == ["example.org"]


async def test_a_fork_has_what_its_origin_has(house: SessionHouse) -> None:
    client = house.client()
    source = await client.create()
    session = await client.create(shared_folders=[docs(source.name)], egress_hosts=["example.org"])
    await run(client, session.name)
    request = session_service_pb2.ForkSessionRequest(name=session.name)
    answer = await client.sessions.ForkSession(request, metadata=client.metadata, timeout=60)
    assert answer.session.shared_folders == session.shared_folders
    assert answer.session.egress_hosts == session.egress_hosts
    await run(client, answer.session.name)
    assert house.runner.requests[-1].sandbox == house.runner.requests[0].sandbox
