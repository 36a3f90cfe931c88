"""The ledger's one worker outlives whatever its jobs do, and knows for whom it works."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from llm_proxy.ledger.database import Database, open_database
from llm_proxy.ledger.ledger import Ledger, Outcome
from llm_proxy.ledger.scopes import Payer
from llm_proxy.messages.usage import TokenUsage
from servicekit.errors import Failure
from servicekit.testing import wait_until
from sqlalchemy import Connection, text
from structlog.testing import capture_logs

PAYER = Payer("acme", "main")
SETTLED = Outcome("settled", "demo/offline", TokenUsage(1, 2), 3)


def states(directory: Path) -> list[str]:
    """Return the state of every call, as another program reads it."""
    with sqlite3.connect(directory / "ledger.db") as file:
        return [state for (state,) in file.execute("SELECT state FROM llm_calls")]


async def held(database: Database) -> tuple[Callable[[], None], asyncio.Future[None]]:
    """Keep the worker busy until the function is called that is returned; the future ends then."""
    begun, release = Event(), Event()

    def hold(_: Connection) -> None:
        begun.set()
        release.wait(60)

    holding = asyncio.ensure_future(database.run(hold))
    await asyncio.to_thread(begun.wait, 60)
    return release.set, holding


async def test_an_amount_that_no_database_holds_harms_its_own_call_only(tmp_path: Path) -> None:
    async with open_database(f"sqlite:///{tmp_path}/ledger.db") as database:
        ledger = Ledger(database, (), "here")
        results = await asyncio.gather(
            *(ledger.reserve(PAYER, "demo/offline", amount) for amount in (1, 10**30, 2)),
            return_exceptions=True,
        )
        assert [type(result).__name__ for result in results] == ["Reservation", "Failure", "Reservation"]
        assert isinstance(results[1], Failure) and results[1].reason_name == "INTERNAL"
        assert await ledger.reserve(PAYER, "demo/offline", 3)


async def test_a_job_whose_caller_left_before_it_began_takes_no_effect(tmp_path: Path) -> None:
    async with open_database(f"sqlite:///{tmp_path}/ledger.db") as database:

        def insert(connection: Connection) -> None:
            connection.execute(text("INSERT INTO llm_balances VALUES ('k', 'total', 1, 0)"))

        def count(connection: Connection) -> int:
            return int(connection.execute(text("SELECT count(*) FROM llm_balances")).scalar_one())

        release, holding = await held(database)
        leaving = asyncio.ensure_future(database.run(insert))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        release()
        await holding
        assert await database.run(count) == 0


async def test_a_call_is_settled_however_often_its_caller_is_cancelled_meanwhile(tmp_path: Path) -> None:
    async with open_database(f"sqlite:///{tmp_path}/ledger.db") as database:
        ledger = Ledger(database, (), "here")
        reservation = await ledger.reserve(PAYER, "demo/offline", 5)
        release, holding = await held(database)
        for _ in range(3):
            settling = asyncio.ensure_future(ledger.settle(reservation, SETTLED))
            await asyncio.sleep(0)
            settling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await settling
        release()
        await holding
    assert states(tmp_path) == ["settled"]


async def test_what_was_asked_for_before_the_end_is_done_before_the_file_is_closed(tmp_path: Path) -> None:
    async with open_database(f"sqlite:///{tmp_path}/ledger.db") as database:
        ledger = Ledger(database, (), "here")
        reservations = [await ledger.reserve(PAYER, "demo/offline", 5) for _ in range(200)]
        release, holding = await held(database)
        settling = [asyncio.ensure_future(ledger.settle(one, SETTLED)) for one in reservations]
        await asyncio.sleep(0)
        release()
    await asyncio.gather(holding, *settling)
    assert states(tmp_path) == ["settled"] * 200


async def test_who_leaves_while_money_is_set_aside_gets_it_back(tmp_path: Path) -> None:
    async with open_database(f"sqlite:///{tmp_path}/ledger.db") as database:
        ledger = Ledger(database, (), "here")
        with sqlite3.connect(tmp_path / "ledger.db", isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            reserving = asyncio.ensure_future(ledger.reserve(PAYER, "demo/offline", 5, 100))
            # It has begun when it is out of the queue, and waits for the other's lock.
            await wait_until(lambda: database.queued() == 0 and not reserving.done())
            reserving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reserving
            other.execute("COMMIT")
        kept = await database.run(lambda c: c.execute(text("SELECT reserved, spent FROM llm_balances")).all())
    assert states(tmp_path) in (["failed"], [])
    assert [tuple(row) for row in kept] in ([(0, 0)], [])


async def read_only(database: Database, *, on: bool) -> None:
    """Have the database refuse all that is written, as a disk does that was mounted anew after an error."""

    def switch(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        driver.execute(f"PRAGMA query_only={int(on)}")

    await database.run(switch, fsynced=False)


async def test_a_call_that_ended_while_nothing_could_be_written_is_settled_when_it_can(
    tmp_path: Path,
) -> None:
    async with open_database(f"sqlite:///{tmp_path}/ledger.db") as database:
        ledger = Ledger(database, (), "here")
        reservation = await ledger.reserve(PAYER, "demo/offline", 5)
        await read_only(database, on=True)
        for attempt in (ledger.settle(reservation, SETTLED), ledger.settle_owed()):
            with pytest.raises(Failure, match="does not answer"):
                await attempt
        assert states(tmp_path) == ["open"]
        await read_only(database, on=False)
        await ledger.settle_owed()
        await ledger.settle_owed()
    assert states(tmp_path) == ["settled"]


async def test_commits_without_an_fsync_of_their_own_get_one_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bytes]] = []
    real = os.fdatasync

    def noted(file: int) -> None:
        real(file)
        path = Path(f"/proc/self/fd/{file}").readlink()
        synced.append((path.name, path.read_bytes()))

    monkeypatch.setattr(os, "fdatasync", noted)
    async with open_database(f"sqlite:///{tmp_path}/ledger.db") as database:
        ledger = Ledger(database, (), "here")
        for number in range(3):
            reservation = await ledger.reserve(Payer(f"tenant-{number}", "main"), "demo/offline", 5)
            name = reservation.id.encode()
            await wait_until(lambda: bool(synced) and name in synced[-1][1])  # noqa: B023 - waited for here
    assert {name for name, _ in synced} == {"ledger.db-wal"}
    assert len(synced) <= 6


async def test_the_log_does_not_grow_without_end(tmp_path: Path) -> None:
    async with open_database(f"sqlite:///{tmp_path}/ledger.db") as database:
        ledger = Ledger(database, (), "here")
        reservation = await ledger.reserve(PAYER, "demo/offline", 5, 10**12)
        sizes = []
        for _ in range(4):
            for _ in range(1000):
                await ledger.settle(reservation, SETTLED)
                await ledger.reserve(PAYER, "demo/offline", 0, 10**12)
            sizes.append((tmp_path / "ledger.db-wal").stat().st_size)
    assert sizes[-1] < 2 * sizes[0] < 100_000_000


async def test_nor_does_it_where_each_commit_has_an_fsync_of_its_own(tmp_path: Path) -> None:
    async with open_database(f"sqlite:///{tmp_path}/ledger.db") as database:

        async def write(number: int) -> None:
            row = {"key": f"{number:0400}"}
            insert = text("INSERT INTO llm_balances VALUES (:key, 'total', 1, 0)")
            await database.run(lambda connection: connection.execute(insert, row))

        sizes = []
        for start in range(0, 4400, 100):
            await asyncio.gather(*(write(start + number) for number in range(100)))
            sizes.append((tmp_path / "ledger.db-wal").stat().st_size)
    assert sizes[-1] < 3 * sizes[10]


async def test_a_disk_that_refuses_to_sync_is_told_of_and_asked_again_by_the_next_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def synchronous(connection: Connection) -> int:
        driver: Any = connection.connection.driver_connection
        return int(driver.execute("PRAGMA synchronous").fetchone()[0])

    async with open_database(f"sqlite:///{tmp_path}/ledger.db") as database:
        with capture_logs() as logs:
            monkeypatch.setattr(os, "fdatasync", refuse)
            await Ledger(database, (), "here").reserve(PAYER, "demo/offline", 5)
            await wait_until(lambda: bool(logs))
            monkeypatch.undo()
        normal, full = 1, 2
        assert [await database.run(synchronous, fsynced=False) for _ in range(2)] == [full, normal]
    assert [line["log_level"] for line in logs] == ["error"]


async def test_what_nobody_waits_for_says_when_it_could_not_be_done(tmp_path: Path) -> None:
    async with open_database(f"sqlite:///{tmp_path}/ledger.db") as database:
        failed: list[int] = []

        def insert(connection: Connection) -> None:
            connection.execute(text("INSERT INTO llm_balances VALUES ('k', 'total', 1, 0)"))

        await read_only(database, on=True)
        database.unattended(insert, failed=lambda: failed.append(1))
        await wait_until(lambda: failed == [1])
        await read_only(database, on=False)
        database.unattended(insert, failed=lambda: failed.append(2))
        count = text("SELECT count(*) FROM llm_balances")
        assert await database.run(lambda connection: connection.scalar(count)) == 1
    assert failed == [1]


async def test_when_too_many_wait_the_next_are_refused_at_once_and_leave_nothing_behind(
    tmp_path: Path,
) -> None:
    async with open_database(f"sqlite:///{tmp_path}/ledger.db") as database:
        ledger = Ledger(database, (), "here")
        release, holding = await held(database)
        calls = [asyncio.ensure_future(ledger.reserve(PAYER, "demo/offline", 5)) for _ in range(4200)]
        await wait_until(lambda: sum(call.done() for call in calls) >= 104)
        refused = [call for call in calls if call.done()]
        assert (len(refused), database.queued()) == (104, 4096)
        release()
        await holding
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(result, Failure) for result in results) == 104
    assert states(tmp_path) == ["open"] * 4096
