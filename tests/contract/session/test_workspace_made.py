"""The runner is told whether a session's workspace has something in it, so that it makes no empty one."""

from __future__ import annotations

import grpc.aio
import pytest
from pointsman.session.v1 import workspace_service_pb2 as ws
from support.session_house import Client, SessionHouse


async def told(house: SessionHouse, client: Client, session: str) -> bool:
    """Return what the runner is told with the session's next turn."""
    turn = await client.enqueue("say hello", session)
    await client.finish(turn)
    return house.runner.requests[-1].workspace_made


async def write(client: Client, session: str, path: str = "a") -> None:
    request = ws.WriteFileRequest(session=session, path=path, data=b"x")
    await client.workspaces.WriteFile(request, metadata=client.metadata, timeout=60)


async def test_a_session_has_none_until_a_tool_ran(house: SessionHouse) -> None:
    client = house.client()
    session = (await client.create()).name
    assert not await told(house, client, session)
    assert not await told(house, client, session)
    await client.finish(await client.enqueue("work", session))
    assert await told(house, client, session)


async def test_a_file_from_outside_counts_once_it_is_written(house: SessionHouse) -> None:
    client = house.client()
    session = (await client.create()).name
    house.runner.may_write = False
    with pytest.raises(grpc.aio.AioRpcError):
        await write(client, session, "refused")
    house.runner.may_write = True
    assert not await told(house, client, session)
    await write(client, session)
    assert await told(house, client, session)


async def test_a_fork_has_the_files_it_began_with(house: SessionHouse) -> None:
    client = house.client()
    turn = await client.enqueue("work")
    await client.finish(turn)
    snapshot = ws.CreateSnapshotRequest(session=turn.session)
    made = await client.workspaces.CreateSnapshot(snapshot, metadata=client.metadata, timeout=60)
    copy = await client.create(snapshot=made.snapshot.name)
    assert await told(house, client, copy.name)
