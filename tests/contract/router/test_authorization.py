"""The edge's question: may this request go on, and what does it carry then."""

from __future__ import annotations

import base64
import json

import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2
from pointsman.router.v1 import router_service_pb2
from servicekit.passport import PASSPORT_HEADER
from support.router_edge import added, ask
from support.router_house import API_KEY


async def test_the_key_is_exchanged_for_a_passport(house):
    response = await ask(house, authorization=f"Bearer {API_KEY}")
    assert response.status.code == 0
    passport = house.keys.verifier.verify(added(response)[PASSPORT_HEADER])
    assert (passport.tenant, passport.account) == ("default", None)
    assert passport.principal == f"key:{passport.credential}"
    assert "internal" not in passport.scopes
    assert API_KEY not in str(response)


async def test_the_key_may_come_as_anthropics_clients_send_it(house):
    response = await ask(house, path="/llm/v1/messages", x_api_key=API_KEY)
    assert response.status.code == 0
    assert "x-api-key" in response.ok_response.headers_to_remove


async def test_the_credential_and_claimed_identities_stay_at_the_edge(house):
    claims = {PASSPORT_HEADER: "forged", "x-pointsman-tenant": "other", "x-pointsman-anything": "1"}
    response = await ask(house, authorization=f"Bearer {API_KEY}", **claims)
    assert set(response.ok_response.headers_to_remove) == {
        "authorization",
        "x-pointsman-tenant",
        "x-pointsman-anything",
    }
    assert added(response)[PASSPORT_HEADER] != "forged"


@pytest.mark.parametrize(
    ("headers", "path", "reason"),
    [
        ({}, "/query", "CREDENTIAL_MISSING"),
        ({"authorization": ""}, "/query", "CREDENTIAL_MISSING"),
        ({"authorization": "Bearer wrong"}, "/query", "CREDENTIAL_INVALID"),
        ({"authorization": f"Bearer {API_KEY}x"}, "/query", "CREDENTIAL_INVALID"),
        ({"authorization": f"Basic {API_KEY}"}, "/query", "CREDENTIAL_INVALID"),
        ({"authorization": "Bearer"}, "/query", "CREDENTIAL_INVALID"),
        ({"authorization": f"Bearer {API_KEY},Bearer {API_KEY}"}, "/query", "CREDENTIAL_INVALID"),
        ({"authorization": "Bearer " + "x" * 20_000}, "/query", "CREDENTIAL_INVALID"),
        ({"authorization": f"Bearer {API_KEY}"}, f"/v1/sessions?key={API_KEY}", "CREDENTIAL_INVALID"),
        ({}, f"/v1/sessions?page_size=1&Access_Token={API_KEY}", "CREDENTIAL_INVALID"),
    ],
)
async def test_a_refusal_says_which_in_json(house, headers, path, reason):
    response = await ask(house, path=path, **headers)
    assert response.status.code == 16
    assert response.denied_response.status.code == 401
    body = json.loads(response.denied_response.body)
    assert body["code"] == 16
    assert body["message"]
    assert body["details"] == [
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "pointsman"}
    ]
    assert added(response)["content-type"] == "application/json"
    assert API_KEY not in str(response)


async def test_a_page_token_is_no_key(house):
    response = await ask(house, path="/v1/sessions?page_token=abc", authorization=f"Bearer {API_KEY}")
    assert response.status.code == 0


@pytest.mark.parametrize(
    "content_type", ["application/grpc", "application/grpc+proto", "application/grpc-web"]
)
async def test_a_refusal_over_grpc_has_its_details_in_the_header_of_grpc(house, content_type):
    response = await ask(house, content_type=content_type)
    assert response.denied_response.status.code == 401
    raw = added(response)["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(base64.b64decode(raw + "=" * (-len(raw) % 4)))
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (status.code, info.reason, info.domain) == (16, "CREDENTIAL_MISSING", "pointsman")
    assert response.denied_response.body == status.message


@pytest.mark.parametrize(
    "path",
    [
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/pointsman.system.v1.SystemService/GetHealth",
        "/healthz",
    ],
)
async def test_an_open_door_needs_no_key_and_gives_no_passport(house, path):
    response = await ask(house, path=path, **{PASSPORT_HEADER: "forged"})
    assert response.status.code == 0
    assert added(response) == {}
    assert list(response.ok_response.headers_to_remove) == [PASSPORT_HEADER]


async def test_a_service_called_without_passport_is_refused(house):
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await house.router.Query(router_service_pb2.QueryRequest(query="hi"))
    assert refused.value.code().name == "UNAUTHENTICATED"
