"""A full disk: calls say so, what was acknowledged is kept, and work goes on when there is room again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc.aio
import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import turn_pb2
from servicekit.testing import wait_until
from support.required import lacking
from support.session_databases import Postgres, postgres
from support.session_house import Client, SessionHouse, failure_of, session_house

# An empty database of PostgreSQL has 8 MB.
_SIZE = "24m"
_MASS = "x" * 200_000


class Disk:
    """A small disk of its own, and a file that can fill it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Leave no room."""
        with self._ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        """Make room again."""
        self._ballast.unlink()


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    folder.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={_SIZE},mode=0777", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        lacking(f"no small disk can be mounted here: {made.stderr.strip()}")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest) -> Iterator[Postgres | None]:
    """A server of its own: one whose disk goes away writes no checkpoint any more."""
    if request.param == "sqlite":
        yield None
        return
    with postgres() as started:
        yield started


@pytest.fixture
def disk(tmp_path: Path, server: Postgres | None) -> Iterator[Disk]:
    with small_disk(tmp_path / "data" if server is None else server.socket_dir / "disk") as mounted:
        yield mounted


@pytest.fixture
async def house(tmp_path: Path, disk: Disk, server: Postgres | None) -> AsyncIterator[SessionHouse]:
    url = ""
    if server is not None:
        place = disk.folder / "tablespace"
        place.mkdir()
        owner = server.data_dir.stat()
        os.chown(place, owner.st_uid, owner.st_gid)
        server.sql(f"CREATE TABLESPACE small LOCATION '{place}'")
        url = server.create_database(tablespace="small")
    async with session_house(tmp_path, url, max_concurrent_turns=2) as running:
        yield running


async def until_refused(
    client: Client, session: str
) -> tuple[list[turn_pb2.Turn], errors_pb2.ErrorReason.ValueType]:
    """Queue turns until one is refused; return the acknowledged ones, and why the next was not."""
    accepted: list[turn_pb2.Turn] = []
    for _ in range(90):
        try:
            accepted.append(await client.enqueue(f"say {_MASS}", session))
        except grpc.aio.AioRpcError as error:
            return accepted, failure_of(error).reason
    raise AssertionError("the disk never filled")


async def test_a_full_disk_is_told_and_loses_nothing_and_mends_by_itself(
    house: SessionHouse, disk: Disk
) -> None:
    client = house.client()
    running = await client.enqueue("wait")
    await wait_until(lambda: running.name in house.runner.turns, 60)
    disk.fill()
    accepted, reason = await until_refused(client, running.session)
    assert reason == errors_pb2.ERROR_REASON_DISK_FULL
    # Reading goes on, and shows all that was acknowledged.
    for turn in (running, *accepted):
        assert (await client.turn(turn.name)).prompt == turn.prompt
    # A turn that ends now is not lost: its end waits for room.
    house.runner.turns[running.name].released.set()
    await wait_until(lambda: house.runner.turns[running.name].over, 60)
    disk.free()
    assert (await client.finish(running)).outcome == turn_pb2.TURN_STATE_SUCCEEDED
    for turn in accepted:
        assert (await client.finish(turn)).outcome == turn_pb2.TURN_STATE_SUCCEEDED
    more = await client.enqueue("say more", running.session)
    assert (await client.finish(more)).result == "more"
    events = await client.events(running.session)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
