"""Rows per second into the event log: grouped commits ÷ one commit each, on SQLite and PostgreSQL.

    python bench/commit.py [--seconds 2] [--json out.json]

Both arms write the same rows through the same code and wait for the same acknowledgement. The one puts an
append as soon as the one before it is durable; the other keeps the log's queue filled, as many turns that run
at once do. Arms are interleaved. Exits with 1 when a ratio is below the gate of 3.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import uvloop
from pointsman.session.v1 import event_pb2
from session.events.append import Append
from session.events.bus import Bus
from session.events.log import Log
from session.storage.database import Database, opened
from session.storage.migrations.upgrade import upgrade
from session.storage.statements import sessions, turns
from session.storage.tables import RUNNING
from session.storage.transaction import Transaction
from support.session_databases import postgres

GATE = 3.0
ROUNDS = 3
TURNS = 64
IN_FLIGHT = 4


def nobody(_session_id: str, _events: object) -> None:
    """Publish to no watcher."""


async def prepare(database: Database) -> None:
    """Make sessions, each with a turn that runs."""
    await upgrade(database)
    await database.run(fill)


async def fill(tx: Transaction) -> None:
    """Make the rows."""
    for number in range(TURNS):
        await sessions.insert(tx, id=f"s{number}", tenant="bench", account="a")
        texts = dict.fromkeys(("principal", "model"), "")
        blobs = dict.fromkeys(("body_hash", "prompt", "context", "options"), b"")
        await turns.insert(
            tx,
            id=f"t{number}",
            session_id=f"s{number}",
            tenant="bench",
            account="a",
            request_id=f"r{number}",
            state=RUNNING,
            epoch=1,
            **texts,
            **blobs,
        )


def an_append(number: int) -> Append:
    """Return one event of a turn, of a usual size."""
    result = event_pb2.ToolResult(tool_use_id="t", content="x" * 200)
    return Append(f"s{number}", f"t{number}", 1, [event_pb2.Event(tool_result=result)])


async def one_each(log: Log, until: float) -> int:
    """Write one row, wait until it is durable, write the next."""
    rows = 0
    while time.monotonic() < until:
        await log.append(an_append(rows % TURNS))
        rows += 1
    return rows


async def grouped(log: Log, until: float) -> int:
    """Write from many turns at once; each has a few appends under way."""

    async def turn(number: int) -> int:
        rows = 0
        while time.monotonic() < until:
            appends = [an_append(number) for _ in range(IN_FLIGHT)]
            for append in appends:
                await log.put(append)
            await appends[-1].done
            rows += IN_FLIGHT
        return rows

    return sum(await asyncio.gather(*(turn(number) for number in range(TURNS))))


Arm = Callable[[Log, float], Awaitable[int]]


async def measure(url: str, seconds: float) -> dict[str, float]:
    """Return the median rows per second of both arms, and their ratio."""
    async with opened(url) as database:
        await prepare(database)
        log = Log(database, Bus(database, replica=1), nobody, nobody)
        writer = asyncio.create_task(log.write())
        arms: dict[str, Arm] = {"one each": one_each, "grouped": grouped}
        rates: dict[str, list[float]] = {name: [] for name in arms}
        for _ in range(ROUNDS):
            for name, arm in arms.items():
                began = time.monotonic()
                rows = await arm(log, began + seconds)
                rates[name].append(rows / (time.monotonic() - began))
        writer.cancel()
        await check(database)
    medians = {name: statistics.median(of_arm) for name, of_arm in rates.items()}
    return medians | {"R_commit": medians["grouped"] / medians["one each"]}


async def check(database: Database) -> None:
    """Fail unless every session's numbers are without gaps: a fast log that is wrong is none."""
    gaps = "SELECT session_id FROM events GROUP BY session_id HAVING count(*) <> max(sequence)"
    query = f"SELECT count(*) FROM ({gaps}) AS x"

    async def count(tx: Transaction) -> int:
        return int((await tx.execute(sa.text(query))).scalar_one())

    wrong = await database.run(count)
    if wrong:
        raise SystemExit(f"{wrong} sessions have gaps in their log")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, postgres(fsync=True) as server:
        urls = {
            "sqlite": f"sqlite:///{directory}/bench.db",
            "postgresql": server.create_database().replace("postgresql://", "postgresql+asyncpg://"),
        }
        results = {name: uvloop.run(measure(url, arguments.seconds)) for name, url in urls.items()}
    print(f"{'database':12} {'one each':>10} {'grouped':>10} {'ratio':>7}   rows/s, medians of {ROUNDS}")
    for name, result in results.items():
        print(f"{name:12} {result['one each']:10.0f} {result['grouped']:10.0f} {result['R_commit']:7.1f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))
    if min(result["R_commit"] for result in results.values()) < GATE:
        raise SystemExit(f"below the gate of {GATE}")


if __name__ == "__main__":
    main()
