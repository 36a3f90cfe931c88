"""Snapshots that callers make: limited by number and bytes, deleted, and never left behind."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import grpc.aio
import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import session_service_pb2, template_service_pb2
from pointsman.session.v1 import workspace_service_pb2 as ws
from servicekit.testing import wait_until
from support.session_house import Client, SessionHouse, failure_of, session_house

LIMIT = errors_pb2.ERROR_REASON_SNAPSHOT_LIMIT
NOT_FOUND = errors_pb2.ERROR_REASON_SNAPSHOT_NOT_FOUND
# What the scripted runner says of every snapshot.
SIZE = 42


@pytest.fixture
async def house(tmp_path: Path, database_url: str) -> AsyncIterator[SessionHouse]:
    async with session_house(
        tmp_path,
        database_url,
        2 if database_url else 1,
        session_snapshots=3,
        session_snapshot_bytes=1000,
        tenant_snapshots=5,
        tenant_snapshot_bytes=1000,
    ) as running:
        yield running


async def create(client: Client, session: str, request_id: str = "", timeout: float = 60) -> ws.Snapshot:
    request = ws.CreateSnapshotRequest(session=session, request_id=request_id)
    answer = await client.workspaces.CreateSnapshot(request, metadata=client.metadata, timeout=timeout)
    return answer.snapshot


async def delete(client: Client, name: str) -> None:
    request = ws.DeleteSnapshotRequest(name=name)
    await client.workspaces.DeleteSnapshot(request, metadata=client.metadata, timeout=60)


async def listed(client: Client, session: str) -> list[str]:
    request = ws.ListSnapshotsRequest(session=session)
    answer = await client.workspaces.ListSnapshots(request, metadata=client.metadata, timeout=60)
    return [snapshot.name for snapshot in answer.snapshots]


async def refused(call: object) -> int:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    return failure_of(caught.value).reason


async def test_a_session_has_so_many_and_deleting_one_makes_room(house: SessionHouse) -> None:
    client = house.client()
    session = (await client.create()).name
    made = [await create(client, session) for _ in range(3)]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await create(client, session)
    failure = failure_of(caught.value)
    assert failure.reason == LIMIT
    assert failure.metadata == {"scope": "session", "limit": "3"}
    await delete(house.client(replica=-1), made[0].name)
    assert await listed(client, session) == [made[2].name, made[1].name]
    assert made[0].name.rpartition("/")[2] not in house.runner.snapshots
    assert await refused(delete(client, made[0].name)) == NOT_FOUND
    restore = ws.RestoreSnapshotRequest(name=made[0].name)
    assert (
        await refused(client.workspaces.RestoreSnapshot(restore, metadata=client.metadata, timeout=60))
        == NOT_FOUND
    )
    await create(client, session)
    assert await refused(delete(house.client("other"), made[1].name)) in (
        errors_pb2.ERROR_REASON_SESSION_NOT_FOUND,
        NOT_FOUND,
    )
    assert len(await listed(client, session)) == 3


async def test_a_tenant_has_so_many_with_its_templates(house: SessionHouse) -> None:
    client = house.client()
    one, two = (await client.create()).name, (await client.create(account="other")).name
    for session in (one, one, two, two):
        await create(client, session)
    wanted = template_service_pb2.Template(name="templates/t")
    request = template_service_pb2.CreateTemplateRequest(template=wanted, source=one)
    await client.templates.CreateTemplate(request, metadata=client.metadata, timeout=60)
    assert await refused(create(client, two)) == LIMIT
    request.template.name = "templates/u"
    assert (
        await refused(client.templates.CreateTemplate(request, metadata=client.metadata, timeout=60)) == LIMIT
    )
    other = house.client("another tenant")
    await create(other, (await other.create()).name)


async def test_bytes_are_limited_and_the_runner_knows_how_many_are_left(
    tmp_path: Path, database_url: str
) -> None:
    async with session_house(tmp_path, database_url, session_snapshot_bytes=SIZE + 1) as house:
        client = house.client()
        session = (await client.create()).name
        await create(client, session)
        # One byte is left, and the runner of this test does not look.
        assert await refused(create(client, session)) == LIMIT
        assert [asked.max_bytes for asked in house.runner.packed] == [SIZE + 1, 1]
        assert all(asked.owned for asked in house.runner.packed)
        assert len(house.runner.snapshots) == len(await listed(client, session)) == 1


async def test_two_at_once_do_not_both_get_the_last_place(tmp_path: Path, database_url: str) -> None:
    replicas = 2 if database_url else 1
    async with session_house(tmp_path, database_url, replicas, session_snapshots=1) as house:
        client = house.client()
        session = (await client.create()).name
        house.runner.may_pack.clear()
        request_id = str(uuid.uuid4())
        calls = [
            asyncio.create_task(create(client, session, request_id)),
            asyncio.create_task(create(house.client(replica=-1), session)),
        ]
        await wait_until(lambda: house.runner.packing == 2)
        house.runner.may_pack.set()
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert sorted(isinstance(each, ws.Snapshot) for each in done) == [False, True]
        (error,) = [each for each in done if isinstance(each, grpc.aio.AioRpcError)]
        assert failure_of(error).reason == LIMIT
        assert len(house.runner.snapshots) == len(await listed(client, session)) == 1


async def test_one_request_twice_at_once_makes_one_at_the_limit(tmp_path: Path, database_url: str) -> None:
    async with session_house(tmp_path, database_url, session_snapshots=1) as house:
        client = house.client()
        session = (await client.create()).name
        house.runner.may_pack.clear()
        request_id = str(uuid.uuid4())
        calls = [asyncio.create_task(create(client, session, request_id)) for _ in range(2)]
        await wait_until(lambda: house.runner.packing == 2)
        house.runner.may_pack.set()
        first, second = await asyncio.gather(*calls)
        assert first == second
        assert await create(client, session, request_id) == first
        assert len(house.runner.snapshots) == 1


async def test_one_that_was_cut_off_is_made_by_the_same_request_or_removed(
    house: SessionHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = house.client()
    session = (await client.create()).name
    house.runner.may_pack.clear()
    request_ids = [str(uuid.uuid4()), str(uuid.uuid4())]
    calls = [asyncio.create_task(create(client, session, request_id)) for request_id in request_ids]
    await wait_until(lambda: house.runner.packing == 2)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await wait_until(lambda: house.runner.packing_stopped == 2)
    house.runner.may_pack.set()
    assert await listed(client, session) == []
    assert house.runner.snapshots == {}
    made = await create(client, session, request_ids[0])
    # The other one is removed for good once its hour is over.
    monkeypatch.setattr("session.sessions.snapshots._UNFINISHED", timedelta(0))

    async def gone() -> bool:
        return await _tried_again(client, session, request_ids[1]) == NOT_FOUND

    house.runner.may_pack.clear()
    await wait_until(gone)
    house.runner.may_pack.set()
    assert await listed(client, session) == [made.name]


async def _tried_again(client: Client, session: str, request_id: str) -> int:
    """Return why it cannot be made; while it can, the runner keeps the call waiting."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await create(client, session, request_id, timeout=0.5)
    return failure_of(caught.value).reason


async def test_one_that_is_deleted_while_it_is_made_is_not_kept(house: SessionHouse) -> None:
    client = house.client()
    session = (await client.create()).name
    house.runner.may_pack.clear()
    making = asyncio.create_task(create(client, session))
    await wait_until(lambda: house.runner.packing == 1)
    name = f"{session}/snapshots/{house.runner.packed[0].snapshot_id}"
    await delete(client, name)
    house.runner.may_pack.set()
    assert await refused(making) == NOT_FOUND
    assert house.runner.snapshots == {}


async def test_a_turn_waits_as_long_as_a_workspace_is_copied(
    house: SessionHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The hold is renewed twenty times while it is copied.
    monkeypatch.setattr("session.sessions.snapshots.HOLD", 300_000)
    monkeypatch.setattr("session.runs.writer.HOLD", 300_000)
    monkeypatch.setattr("session.sessions.snapshots._RENEW_SECONDS", 0.1)
    client = house.client()
    house.runner.may_pack.clear()
    first = await client.enqueue("work")
    await client.finish(first)
    await wait_until(lambda: house.runner.packing == 1)
    second = await client.enqueue("say hi", first.session)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await client.finish(second)
    house.runner.may_pack.set()
    await client.finish(second)
    assert len(house.runner.snapshots) == 1


async def test_a_copy_that_outlives_the_lease_is_kept_and_can_be_forked(
    tmp_path: Path, database_url: str
) -> None:
    async with session_house(tmp_path, database_url, lease_seconds=0.3) as house:
        client = house.client()
        house.runner.may_pack.clear()
        turn = await client.enqueue("work")
        await client.finish(turn)
        await wait_until(lambda: house.runner.packing == 1)
        # Ten renewals of leases; the turn is over, so it has none.
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await wait_until(lambda: house.runner.packing_stopped > 0, timeout=60)
        assert await refused(_fork(client, turn.session)) == errors_pb2.ERROR_REASON_SESSION_BUSY
        house.runner.may_pack.set()
        await wait_until(lambda: len(house.runner.snapshots) == 1)
        assert (await _fork(client, turn.session)).session.forked_from == turn.name


async def _fork(client: Client, session: str) -> session_service_pb2.ForkSessionResponse:
    request = session_service_pb2.ForkSessionRequest(name=session)
    return await client.sessions.ForkSession(request, metadata=client.metadata, timeout=60)


async def test_what_a_turn_left_is_dropped_when_it_could_not_be_noted(house: SessionHouse) -> None:
    client = house.client()
    house.runner.lose_answers = True
    first = await client.enqueue("work")
    await client.finish(first)
    await wait_until(lambda: house.runner.packing == 1 and not house.runner.snapshots)
    house.runner.lose_answers = False
    second = await client.enqueue("work", first.session)
    await client.finish(second)
    await wait_until(lambda: len(house.runner.snapshots) == 1)
