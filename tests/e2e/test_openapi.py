"""The OpenAPI document tells the truth, also to those who send what attackers and broken programs send.

`test_schemathesis.py` has the rest: what the document itself makes one think of.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import jsonschema
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.openapi_requests import Operation, Request, operations, requests
from support.suite import ROOT

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]

DOCUMENT = json.loads((ROOT / "deploy" / "envoy" / "openapi.json").read_text())
# What a run of these does is its own subject elsewhere, and each takes a second.
RUNS = {
    "RouterService.Query",
    "RouterService.RunTurn",
    "RouterService.RunAgent",
    "RouterService.SendMessage",
}
# It never ends by itself.
WATCHES = {"SessionService.WatchEvents"}
EVERY = [operation for operation in operations(DOCUMENT) if operation.name not in WATCHES]
# Documented in `docs/errors.md`: what a 5xx of ours may be.
TYPED_5XX = {501, 503, 504}


def answer_schema(operation: Operation, status: int) -> dict[str, Any]:
    if status == 200:
        answer = next(iter(operation.body["responses"]["200"]["content"].values()))["schema"]
    else:
        answer = {"$ref": "#/components/schemas/google.rpc.Status"}
    return {**answer, "components": DOCUMENT["components"]}


def send(suite: Any, http: httpx.Client, operation: Operation, request: Request) -> httpx.Response:
    return http.request(
        operation.verb,
        f"{suite.url}{request.path}",
        params=request.query,
        content=request.content,
        headers={"authorization": f"Bearer {suite.key}", "content-type": "application/json"},
    )


def check(operation: Operation, response: httpx.Response) -> None:
    assert response.status_code < 500 or response.status_code in TYPED_5XX, response.text
    kind = response.headers["content-type"]
    told = (
        operation.body["responses"]["200"]["content"] if response.status_code == 200 else {"application/json"}
    )
    assert kind in told, response.text
    for line in response.text.splitlines() if response.status_code == 200 else [response.text]:
        jsonschema.validate(json.loads(line), answer_schema(operation, response.status_code))
    if response.status_code != 200:
        assert response.json().get("details"), response.text


@pytest.fixture(scope="module")
def http():
    with httpx.Client(timeout=60, trust_env=False) as client:
        yield client


def test_the_document_is_served_without_a_key(suite, http):
    served = http.get(f"{suite.url}/openapi.json")
    assert served.status_code == 200
    assert served.headers["content-type"].startswith("application/json")
    assert served.json() == DOCUMENT


@pytest.mark.parametrize("operation", EVERY, ids=lambda operation: operation.name)
def test_answers_are_what_the_document_says_whatever_is_sent(suite, http, operation):
    @settings(
        max_examples=3 if operation.name in RUNS else 10,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def send_some(data: st.DataObject) -> None:
        check(operation, send(suite, http, operation, data.draw(requests(operation, DOCUMENT))))

    send_some()


@pytest.mark.parametrize("operation", EVERY, ids=lambda operation: operation.name)
def test_no_operation_but_health_answers_without_a_key(suite, http, operation):
    path = operation.path.replace("{", "").replace("}", "")
    response = http.request(
        operation.verb, f"{suite.url}{path}", content=b"{}", headers={"content-type": "application/json"}
    )
    assert response.status_code == (200 if operation.body.get("security") == [] else 401)
