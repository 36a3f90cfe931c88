"""A question about rows, answered from a real table by a model alone."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pointsman.session.v1 import event_pb2, turn_pb2
from pointsman_client import Client
from support.session_databases import postgres

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]

ROWS = [("acme",)] * 3 + [("other",)] * 5


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database with orders of two accounts."""
    if request.param == "postgresql":
        with postgres() as server:
            url = server.create_database()
            name = url.split("/")[3].split("?")[0]
            server.sql("CREATE TABLE orders (id serial PRIMARY KEY, account text)", name)
            for (account,) in ROWS:
                server.sql(f"INSERT INTO orders (account) VALUES ('{account}')", name)
            yield url
        return
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, account TEXT)")
        database.executemany("INSERT INTO orders (account) VALUES (?)", ROWS)
    yield f"sqlite:///{path}"


def settings(tmp_path: Path) -> Path:
    query = "SELECT count(*) AS orders FROM orders WHERE account = :account"
    provider = {"name": "orders", "kind": "sql", "url": "${SHOP_URL}", "query": query, "deadline_seconds": 20}
    rule = {"name": "order-questions", "when": {"context": ["orders"]}, "outcome": "direct"}
    path = tmp_path / "router.yaml"
    path.write_text(json.dumps({"context": [provider], "triage": {"rules": [rule]}}))
    return path


def test_a_question_about_rows_is_answered_without_an_agent(
    make_suite: Any, tmp_path: Path, shop: str
) -> None:
    suite = make_suite(POINTSMAN_ROUTER_CONFIG=str(settings(tmp_path)), SHOP_URL=shop)
    with Client(suite.url, suite.key) as client:
        answers = {}
        for account in ("acme", "other", "x"):
            events = list(client.run_turn("how many orders has this account?", account=account))
            answers[account] = events[-1].turn_finished.result
            kinds = [event.WhichOneof("kind") for event in events]
            assert "context_created" in kinds
            assert "sandbox_changed" not in kinds
            assert decided(events).route == turn_pb2.TURN_ROUTE_DIRECT
    assert answers == {"acme": "3", "other": "5", "x": "0"}


def decided(events: list[event_pb2.Event]) -> event_pb2.TriageDecided:
    return next(event.triage_decided for event in events if event.HasField("triage_decided"))
