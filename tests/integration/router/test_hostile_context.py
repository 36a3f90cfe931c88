"""Results without end, queries without end, databases that are gone, words that are SQL: on both databases.

What a provider does is bounded in memory and time and told with a reason; then what the operator said holds:
the turn goes on without it, or is refused. Nothing here is stored: databases make it up as they go.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.router.v1 import router_service_pb2 as pb
from router.app import app
from servicekit.errors import Failure
from servicekit.testing import Keys, started, test_keys
from support.router_house import House, configuration
from support.router_peers import SessionPeer, session_service
from support.session_databases import Postgres, postgres

pytestmark = pytest.mark.heavy

# What the router itself takes to begin, and what it shows of a result, are a few megabytes.
GROWTH = 96 * 1024 * 1024
# Only for what must not end by itself is it shorter.
DEADLINE = 30.0


@dataclass(frozen=True)
class Shop:
    """A database with orders of two accounts, and how it makes up what no table holds."""

    url: str
    many_rows: str
    """A GB in rows of 1 KB."""
    large_rows: str
    """A GB in rows of 1 MB."""
    endless: str
    count: Any


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(request: pytest.FixtureRequest, tmp_path: Path, server: Postgres) -> Shop:
    if request.param == "postgresql":
        url = server.create_database()
        name = url.split("/")[3].split("?")[0]
        server.sql("CREATE TABLE orders (id serial PRIMARY KEY, account text)", name)
        server.sql("INSERT INTO orders (account) SELECT 'acme' FROM generate_series(1, 3)", name)
        return Shop(
            url=url,
            many_rows="SELECT x, repeat('x', 1024) AS filler FROM generate_series(1, 1048576) AS x",
            large_rows="SELECT x, repeat('x', 1048576) AS filler FROM generate_series(1, 1024) AS x",
            endless="SELECT count(*) FROM generate_series(1, 1000000000000000)",
            count=lambda: int(server.sql("SELECT count(*) FROM orders", name).strip()),
        )
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, account TEXT)")
        database.executemany("INSERT INTO orders (account) VALUES (?)", [("acme",)] * 3)

    def numbers(last: int) -> str:
        return f"WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < {last})"

    def count() -> int:
        with sqlite3.connect(path) as database:
            return int(database.execute("SELECT count(*) FROM orders").fetchone()[0])

    return Shop(
        url=f"sqlite:///{path}",
        many_rows=f"{numbers(1024 * 1024)} SELECT x, hex(zeroblob(512)) AS filler FROM n",
        large_rows=f"{numbers(1024)} SELECT x, hex(zeroblob({512 * 1024 - 8})) AS filler FROM n",
        endless="WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n",
        count=count,
    )


@dataclass
class Outcome:
    """What became of a turn: what the session service gets, or why the caller was refused."""

    enqueued: Any
    refused: Failure | None
    seconds: float

    @property
    def told(self) -> Any:
        (event,) = [e.context_created for e in self.enqueued.preface if e.HasField("context_created")]
        return event


async def start(tmp_path: Path, prompt: str = "how many?", account: str = "acme", **provider: Any) -> Outcome:
    """Start one turn with this provider, in a router of its own."""
    keys: Keys = test_keys(tmp_path)
    file = tmp_path / "router.yaml"
    shown = {"name": "orders", "kind": "sql", "deadline_seconds": DEADLINE, **provider}
    file.write_text(json.dumps({"context": [shown]}))
    peer = SessionPeer()
    async with session_service(peer, keys) as session:
        config = configuration(keys, tmp_path / "data", session.address, settings_file=file)
        async with started(app, config) as router:
            house = House(keys, peer, router)
            request = pb.StartTurnRequest(prompt=prompt, account=account)
            begun, refused = time.monotonic(), None
            try:
                await house.router.StartTurn(request, metadata=house.caller(), timeout=60)
            except grpc.aio.AioRpcError as error:
                refused = Failure.from_rpc_error(error, "router")
            return Outcome(next(iter(peer.enqueued), None), refused, time.monotonic() - begun)


def memory(name: str) -> int:
    """A line of this process's status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


@pytest.mark.parametrize("rows", ["many_rows", "large_rows"])
async def test_a_result_of_a_gigabyte_is_cut_where_it_is_made(shop: Shop, tmp_path: Path, rows: str) -> None:
    # The highest mark from now on.
    await asyncio.to_thread(Path("/proc/self/clear_refs").write_text, "5")
    before = memory("VmRSS")
    outcome = await start(
        tmp_path, url=shop.url, query=getattr(shop, rows), max_rows=10_000, max_bytes=262_144
    )
    growth = memory("VmHWM") - before
    print(f"a gigabyte in {rows}: {growth / 2**20:.0f} MiB more, {outcome.seconds:.2f} s")
    assert outcome.refused is None
    assert not outcome.told.HasField("error"), outcome.told
    assert "[cut: there is more than fits]" in outcome.enqueued.context
    assert outcome.told.size_bytes <= 262_144 + 100
    assert growth < GROWTH


async def test_a_single_value_of_half_a_gigabyte_is_refused_before_it_is_made(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    path.touch()
    await asyncio.to_thread(Path("/proc/self/clear_refs").write_text, "5")
    before = memory("VmRSS")
    outcome = await start(tmp_path, url=f"sqlite:///{path}", query="SELECT hex(zeroblob(250000000)) AS huge")
    assert "larger than it may be" in outcome.told.error.message
    assert memory("VmHWM") - before < GROWTH


@pytest.mark.parametrize("policy", ["skip", "fail"])
async def test_an_endless_query_is_stopped_and_the_policy_followed(
    shop: Shop, tmp_path: Path, policy: str
) -> None:
    outcome = await start(tmp_path, url=shop.url, query=shop.endless, on_failure=policy, deadline_seconds=1)
    assert outcome.seconds < DEADLINE
    check(outcome, policy, ("took too long", "took longer than"))


@pytest.mark.parametrize("policy", ["skip", "fail"])
@pytest.mark.parametrize("how", ["no file", "no database", "locked", "nobody listens", "never answers"])
async def test_a_dead_database_is_told_as_such_and_the_policy_followed(
    tmp_path: Path, how: str, policy: str
) -> None:
    # Takes connections, by its backlog, and says nothing.
    silent = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    path = tmp_path / "dead.db"
    urls = {
        "no file": f"sqlite:///{tmp_path}/nowhere.db",
        "no database": f"sqlite:///{path}",
        "locked": f"sqlite:///{path}",
        "nobody listens": "postgresql://reader:s3cret@127.0.0.1:9/shop",
        "never answers": f"postgresql://reader:s3cret@127.0.0.1:{port}/shop",
    }
    held = None
    if how == "no database":
        path.write_bytes(b"this is no database" * 100)
    if how == "locked":
        held = sqlite3.connect(path)
        held.executescript("CREATE TABLE orders (id); BEGIN EXCLUSIVE")
    try:
        outcome = await start(
            tmp_path, url=urls[how], query="SELECT * FROM orders", on_failure=policy, deadline_seconds=1
        )
    finally:
        if held is not None:
            held.close()
        silent.close()
    assert outcome.seconds < DEADLINE
    failure = check(outcome, policy, ("cannot be gathered", "took longer than"))
    for secret in ("s3cret", "127.0.0.1", str(tmp_path)):
        assert secret not in failure.message


def check(outcome: Outcome, policy: str, words: tuple[str, ...]) -> Any:
    """The failure, which is an event of a turn that goes on, or the caller's."""
    if policy == "skip":
        assert outcome.refused is None
        assert outcome.enqueued.context == ""
        failure = outcome.told.error
    else:
        assert outcome.enqueued is None
        assert outcome.refused is not None
        failure = outcome.refused
        assert failure.metadata["service"] == "context:orders"
    assert failure.reason in (
        errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
        errors_pb2.ERROR_REASON_CALL_TIMED_OUT,
    )
    assert any(word in failure.message for word in words), failure.message
    return failure


INJECTIONS = [
    "'; DROP TABLE orders; --",
    "x' OR '1'='1",
    '" OR ""="',
    ":account %s $1 ? \\ ${HOME}",
    "'||(SELECT 1)||'",
]


@pytest.mark.parametrize("words", INJECTIONS)
async def test_words_of_a_prompt_are_bound_and_never_run(shop: Shop, tmp_path: Path, words: str) -> None:
    query = "SELECT count(*) AS found FROM orders WHERE account = :prompt"
    outcome = await start(tmp_path, prompt=words, url=shop.url, query=query, max_rows=5)
    assert outcome.refused is None
    assert not outcome.told.HasField("error"), outcome.told
    assert '"found"' in outcome.enqueued.context
    assert json.loads(outcome.enqueued.context.splitlines()[2])["found"] == 0
    assert shop.count() == 3


@pytest.mark.parametrize("words", [*INJECTIONS, "../acme", "acme\0", "ACME'--"])
async def test_an_account_that_is_sql_is_no_account(shop: Shop, tmp_path: Path, words: str) -> None:
    query = "SELECT count(*) AS found FROM orders WHERE account = :account"
    outcome = await start(tmp_path, account=words, url=shop.url, query=query)
    assert outcome.enqueued is None
    assert outcome.refused is not None
    assert outcome.refused.reason == errors_pb2.ERROR_REASON_INVALID_FIELD
    assert outcome.refused.fields[0][0] == "account"
    assert shop.count() == 3
