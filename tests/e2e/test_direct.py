"""Which prompts take a sandbox and which do not, counted at the runner of a whole installation.

Without a pool: every sandbox there is, was made for a prompt.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from pointsman.session.v1 import event_pb2, turn_pb2
from pointsman_client import Client
from prometheus_client.parser import text_string_to_metric_families
from servicekit.testing import free_port
from support.session_databases import postgres
from support.suite import Suite, running

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]

ROWS = {"acme": 3, "other": 5}
# The runner's calls by which sandboxes come to be.
MAKING = ("RunTurn", "PrepareSandbox")
RUNNER_PLACE = 2


@dataclass(frozen=True)
class House:
    """An installation with two shops' databases as context, and a caller."""

    suite: Suite
    client: Client
    metrics: int

    def sandboxes(self) -> tuple[int, int]:
        """How many there are, and how often the runner was asked for one."""
        text = httpx.get(f"http://127.0.0.1:{self.metrics}/metrics", timeout=60, trust_env=False).text
        samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
        alive = sum(one.value for one in samples if one.name == "pointsman_sandboxes")
        asked = sum(
            one.value
            for one in samples
            if one.name == "pointsman_calls_total" and one.labels["method"] in MAKING
        )
        return int(alive), int(asked)

    def run(self, prompt: str, account: str) -> list[event_pb2.Event]:
        return list(self.client.run_turn(prompt, account=account))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    directory = tmp_path_factory.mktemp("shops")
    with sqlite3.connect(directory / "shop.db") as database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, account TEXT)")
        rows = [(account,) for account, number in ROWS.items() for _ in range(number)]
        database.executemany("INSERT INTO orders (account) VALUES (?)", rows)
    first = free_port()
    with postgres() as server:
        url = server.create_database()
        name = url.split("/")[3].split("?")[0]
        server.sql("CREATE TABLE orders (id serial PRIMARY KEY, account text)", name)
        for account, number in ROWS.items():
            insert = f"INSERT INTO orders (account) SELECT '{account}' FROM generate_series(1, {number + 10})"
            server.sql(insert, name)
        environ = {
            "POINTSMAN_ROUTER_CONFIG": str(settings(directory / "router.yaml")),
            "SHOP_SQLITE": f"sqlite:///{directory / 'shop.db'}",
            "SHOP_POSTGRES": url,
            "POINTSMAN_POOL_SIZE": "0",
            "POINTSMAN_POOL_TEMPLATES": "0",
            "POINTSMAN_METRICS_ADDRESS": f"127.0.0.1:{first}",
        }
        with running(environ) as suite, Client(suite.url, suite.key) as client:
            yield House(suite, client, first + RUNNER_PLACE)


def settings(path: Path) -> Path:
    query = "SELECT count(*) AS orders FROM orders WHERE account = :account"
    common = {"kind": "sql", "query": query, "deadline_seconds": 20}
    context = [
        {"name": "shop-sqlite", "url": "${SHOP_SQLITE}", "pattern": "^how many orders has", **common},
        {"name": "shop-postgres", "url": "${SHOP_POSTGRES}", "pattern": "^how many orders did", **common},
    ]
    rules = [
        {"name": "rows", "when": {"context": ["shop-sqlite", "shop-postgres"]}, "outcome": "direct"},
        {"name": "too-hopeful", "when": {"pattern": "^please"}, "outcome": "direct"},
        {"name": "question", "when": {"pattern": r"\?$"}, "outcome": "direct"},
    ]
    path.write_text(json.dumps({"context": context, "triage": {"rules": rules}}))
    return path


def decisions(events: list[event_pb2.Event]) -> list[event_pb2.TriageDecided]:
    return [event.triage_decided for event in events if event.HasField("triage_decided")]


def result(events: list[event_pb2.Event]) -> str:
    finished = events[-1].turn_finished
    assert finished.outcome == turn_pb2.TURN_STATE_SUCCEEDED, finished
    return finished.result


def test_cheap_prompts_are_answered_and_no_sandbox_is_made(house: House) -> None:
    before = house.sandboxes()
    for number in range(5):
        events = house.run(f"What is {number}+2?", f"cheap-{number}")
        assert result(events) == str(number + 2)
        assert [one.route for one in decisions(events)] == [turn_pb2.TURN_ROUTE_DIRECT]
    assert house.sandboxes() == before


@pytest.mark.parametrize(
    ("prompt", "provider", "more"),
    [
        ("how many orders has this account?", "shop-sqlite", 0),
        ("how many orders did this account make?", "shop-postgres", 10),
    ],
)
def test_a_question_about_rows_is_answered_from_the_table_and_no_sandbox_is_made(
    house: House, prompt: str, provider: str, more: int
) -> None:
    before = house.sandboxes()
    for account, number in {**ROWS, "nobody": -more}.items():
        events = house.run(prompt, account)
        assert result(events) == str(number + more)
        (created,) = [event.context_created for event in events if event.HasField("context_created")]
        assert (created.provider, created.HasField("error")) == (provider, False)
        assert [one.decided_by for one in decisions(events)] == ["rule:rows"]
    assert house.sandboxes() == before


def test_a_coding_prompt_takes_one_sandbox(house: House) -> None:
    alive, asked = house.sandboxes()
    events = house.run("Create hello.py that prints hello world, then run it", "coder")
    assert "hello world" in result(events)
    assert [one.route for one in decisions(events)] == [turn_pb2.TURN_ROUTE_AGENT]
    assert house.sandboxes()[0] == alive + 1
    assert house.sandboxes()[1] > asked


def test_a_direct_answer_that_turns_out_to_need_tools_takes_one_then(house: House) -> None:
    alive, _ = house.sandboxes()
    events = house.run("please create out.txt with the text hi", "hopeful")
    result(events)
    assert [(one.route, one.escalated) for one in decisions(events)] == [
        (turn_pb2.TURN_ROUTE_DIRECT, False),
        (turn_pb2.TURN_ROUTE_AGENT, True),
    ]
    assert any(event.HasField("file_change") for event in events)
    assert len({event.turn for event in events if event.turn}) == 1
    assert house.sandboxes()[0] == alive + 1
    # Whoever wants the one call gets that.
    forced = house.client.run_turn("please create out.txt with the text hi", route=turn_pb2.TURN_ROUTE_DIRECT)
    assert not any(event.HasField("file_change") for event in forced)
    assert house.sandboxes()[0] == alive + 1


def test_an_agent_continues_a_session_that_began_with_direct_answers(house: House) -> None:
    session = house.client.create_session(account="mixed").name

    def ask(prompt: str) -> list[event_pb2.Event]:
        return list(house.client.run_turn(prompt, session=session))

    assert result(ask("What is 17*23?")) == "391"
    events = ask("Create hello.py that prints hello world, then run it")
    assert [one.route for one in decisions(events)] == [turn_pb2.TURN_ROUTE_AGENT]
    assert "hello world" in result(events)
    assert result(ask("What was the first thing I asked?")) == (
        'The first thing you asked was: "What is 17*23?"'
    )


def seconds(house: House, account: str, route: turn_pb2.TurnRoute.ValueType, reached: set[str]) -> float:
    """How long a new session takes from a question to its first event of one of these kinds."""
    begun = time.perf_counter()
    taken = 0.0
    for event in house.client.run_turn("What is 6*7?", account=account, route=route):
        if not taken and event.WhichOneof("kind") in reached:
            taken = time.perf_counter() - begun
        last = event
    assert last.turn_finished.result == "42"
    return taken


def test_a_direct_answer_is_there_before_a_sandbox_could_be(house: House) -> None:
    direct, agent = [], []
    # In turns, so that whatever else this machine does, it does to both.
    for number in range(5):
        account = f"timed-{number}"
        direct.append(seconds(house, account, turn_pb2.TURN_ROUTE_DIRECT, {"turn_finished"}))
        said = {"text_delta", "assistant_message", "usage"}
        agent.append(seconds(house, account, turn_pb2.TURN_ROUTE_AGENT, said))
    ratio = min(direct) / min(agent)
    print(
        f"whole direct answer: fastest {min(direct) * 1000:.0f} ms; first word from a sandbox: "
        f"fastest {min(agent) * 1000:.0f} ms; ratio {ratio:.2f}"
    )
    assert ratio < 1
