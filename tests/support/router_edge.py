"""The edge's question to the router, as Envoy puts it."""

from __future__ import annotations

import json
from typing import Any

from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc
from servicekit.passport import PASSPORT_HEADER, Passport


async def ask(
    house: Any, credential: str | None = None, *, path: str = "/query", **headers: str
) -> external_auth_pb2.CheckResponse:
    """Ask about one request."""
    request = external_auth_pb2.CheckRequest()
    request.attributes.source.address.socket_address.address = "203.0.113.7"
    http = request.attributes.request.http
    http.path = path
    http.method = "POST"
    for name, value in headers.items():
        http.headers[name.replace("_", "-")] = value
    if credential is not None:
        http.headers["authorization"] = f"Bearer {credential}"
    return await external_auth_pb2_grpc.AuthorizationStub(house.channel).Check(request, timeout=60)


def added(response: external_auth_pb2.CheckResponse) -> dict[str, str]:
    """The headers that the answer sets."""
    part = response.ok_response if response.HasField("ok_response") else response.denied_response
    return {option.header.key: option.header.value for option in part.headers}


def passport_of(house: Any, response: external_auth_pb2.CheckResponse) -> Passport:
    """The passport of one that is let in."""
    assert response.status.code == 0, response
    passport: Passport = house.keys.verifier.verify(added(response)[PASSPORT_HEADER])
    return passport


def reason_of(response: external_auth_pb2.CheckResponse) -> str:
    """Why one is not let in."""
    assert response.status.code != 0
    return str(json.loads(response.denied_response.body)["details"][0]["reason"])
