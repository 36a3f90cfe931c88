"""The router on a real PostgreSQL: its own keys and audit log, and other people's rows as context."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pointsman.router.v1 import audit_service_pb2, key_service_pb2
from pointsman.router.v1 import router_service_pb2 as pb
from pointsman.session.v1 import turn_pb2
from router.app import app
from servicekit.testing import Keys, started, test_keys, wait_until
from support.router_edge import ask, reason_of
from support.router_house import House, configuration
from support.router_peers import SessionPeer, session_service
from support.session_databases import Postgres, postgres

pytestmark = pytest.mark.heavy

ORDERS = "SELECT count(*) AS orders FROM orders WHERE account = :account;"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return test_keys(tmp_path)


@pytest.fixture
def shop(server: Postgres) -> str:
    url = server.create_database()
    name = url.split("/")[3].split("?")[0]
    server.sql("CREATE TABLE orders (id serial PRIMARY KEY, account text)", name)
    server.sql("INSERT INTO orders (account) SELECT 'acme' FROM generate_series(1, 42)", name)
    server.sql("INSERT INTO orders (account) SELECT 'other' FROM generate_series(1, 7)", name)
    return url


async def start(keys: Keys, tmp_path: Path, **provider: Any) -> Any:
    """Start a turn whose context is these rows; return what the session service gets."""
    file = tmp_path / "router.yaml"
    rule = {"name": "has-orders", "when": {"context": ["orders"]}, "outcome": "direct"}
    context = [{"name": "orders", "kind": "sql", "deadline_seconds": 30, **provider}]
    file.write_text(json.dumps({"context": context, "triage": {"rules": [rule]}}))
    peer = SessionPeer()
    async with session_service(peer, keys) as session:
        config = configuration(keys, tmp_path / "data", session.address, settings_file=file)
        async with started(app, config) as router:
            house = House(keys, peer, router)
            request = pb.StartTurnRequest(prompt="how many orders has this account?", account="acme")
            await house.router.StartTurn(request, metadata=house.caller(), timeout=60)
    return peer.enqueued[0]


async def test_a_question_is_answered_from_a_table_without_an_agent(keys, tmp_path, shop):
    enqueued = await start(keys, tmp_path, url=shop, query=ORDERS)
    assert '{"orders":42}' in enqueued.context
    assert enqueued.route == turn_pb2.TURN_ROUTE_DIRECT


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("WITH gone AS (DELETE FROM orders RETURNING id) SELECT * FROM gone", "refused"),
        ("SELECT nextval('orders_id_seq')", "change something"),
        ("SELECT pg_sleep(60)", "too long|longer than"),
        ("SELECT 1; DROP TABLE orders", "refused"),
        ("SELECT nothing FROM nowhere", "refused"),
    ],
)
async def test_a_query_that_writes_or_hangs_is_stopped_by_the_database(  # noqa: PLR0917 - fixtures
    keys, tmp_path, server, shop, query, why
):
    # What is refused must not be late before it is.
    deadline = 0.5 if "longer" in why else 30
    enqueued = await start(keys, tmp_path, url=shop, query=query, deadline_seconds=deadline)
    message = enqueued.preface[0].context_created.error.message
    assert any(part in message for part in why.split("|")), message
    name = shop.split("/")[3].split("?")[0]
    assert server.sql("SELECT count(*) FROM orders", name).strip() == "49"

    def idle() -> bool:
        running = (
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(60)%'"
        )
        return bool(server.sql(running + " AND pid <> pg_backend_pid()").strip() == "0")

    await wait_until(idle)


async def test_a_huge_row_is_cut_in_the_database(keys, tmp_path, shop):
    query = "SELECT repeat('x', 100000000) AS huge"
    enqueued = await start(keys, tmp_path, url=shop, query=query, max_bytes=1000, deadline_seconds=20)
    assert "[cut: there is more than fits]" in enqueued.context
    assert len(enqueued.context) < 1500


async def test_a_database_that_is_gone_is_told_and_the_turn_goes_on(keys, tmp_path):
    enqueued = await start(keys, tmp_path, url=f"postgresql://postgres@/x?host={tmp_path}", query=ORDERS)
    assert "cannot be reached" in enqueued.preface[0].context_created.error.message


async def test_keys_and_the_audit_log_may_live_there_and_two_routers_share_them(keys, tmp_path, server):
    url = server.create_database()
    peer = SessionPeer()
    async with session_service(peer, keys) as session:
        first_config = configuration(keys, tmp_path / "1", session.address, database_url=url)
        second_config = configuration(keys, tmp_path / "2", session.address, database_url=url)
        async with started(app, first_config) as one, started(app, second_config) as two:
            first, second = House(keys, peer, one), House(keys, peer, two)
            made = await first.api_keys.CreateKey(
                key_service_pb2.CreateKeyRequest(),
                metadata=first.caller(),
            )
            assert (await ask(second, made.secret)).status.code == 0
            await first.api_keys.RevokeKey(
                key_service_pb2.RevokeKeyRequest(name=made.key.name), metadata=first.caller()
            )

            async def refused() -> bool:
                return bool((await ask(second, made.secret)).status.code != 0)

            await wait_until(refused)
            assert reason_of(await ask(second, made.secret)) == "CREDENTIAL_REVOKED"

            async def told() -> bool:
                entries = await second.audit.ListAuditEntries(
                    audit_service_pb2.ListAuditEntriesRequest(), metadata=second.caller()
                )
                return [entry.method.rpartition("/")[2] for entry in entries.entries] == [
                    "RevokeKey",
                    "CreateKey",
                ]

            await wait_until(told)
    name = url.split("/")[3].split("?")[0]
    with pytest.raises(Exception, match="returned non-zero"):
        server.sql("DELETE FROM router_audit", name)
