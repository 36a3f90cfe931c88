"""Calls of the router's own services: with a credential, where the edge has not asked about them."""

from __future__ import annotations

import json
from typing import Any

import grpc.aio
import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.router.v1 import audit_service_pb2, audit_service_pb2_grpc, key_service_pb2, router_service_pb2
from servicekit.errors import Failure
from servicekit.testing import wait_until
from support.router_house import API_KEY

FORWARDED = ("x-forwarded-for", "198.51.100.1, 203.0.113.7")
KEY = ("authorization", f"Bearer {API_KEY}")


async def query(house: Any, *metadata: tuple[str, str]) -> Any:
    request = router_service_pb2.QueryRequest(query="What is 2+2?")
    return await house.router.Query(request, metadata=(*metadata, FORWARDED), timeout=60)


async def refused(call: Any) -> Failure:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert API_KEY not in str(caught.value)
    return Failure.from_rpc_error(caught.value, "router")


async def test_the_key_is_its_holders_word_for_who_calls(house):
    answer = await query(house, KEY)
    assert answer.response == "4"
    behind = house.peer.passports[0]
    assert (behind.tenant, behind.scopes) == ("default", {"internal"})
    assert behind.principal.startswith("key:")


async def test_it_may_come_as_anthropics_clients_send_it(house):
    assert (await query(house, ("x-api-key", API_KEY))).success


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ([], "CREDENTIAL_MISSING"),
        ([("authorization", "")], "CREDENTIAL_MISSING"),
        ([("authorization", "Bearer wrong")], "CREDENTIAL_INVALID"),
        ([("authorization", f"Basic {API_KEY}")], "CREDENTIAL_INVALID"),
        ([KEY, KEY], "CREDENTIAL_INVALID"),
        ([KEY, ("authorization", "Bearer other")], "CREDENTIAL_INVALID"),
        ([("authorization", "Bearer " + "x" * 9000)], "CREDENTIAL_INVALID"),
    ],
)
async def test_a_refusal_is_typed_and_noted(house, metadata, reason):
    failure = await refused(query(house, *metadata))
    assert (failure.reason_name, failure.code) == (reason, grpc.StatusCode.UNAUTHENTICATED)
    assert house.peer.enqueued == []
    noted: list[audit_service_pb2.AuditEntry] = []

    async def is_noted() -> bool:
        request, owner = audit_service_pb2.ListAuditEntriesRequest(), house.caller(scopes={"owner"})
        noted[:] = (await house.audit.ListAuditEntries(request, metadata=owner, timeout=60)).entries
        return bool(noted)

    await wait_until(is_noted)
    assert [(entry.method, entry.reason, entry.source_address) for entry in noted] == [
        ("POST /pointsman.router.v1.RouterService/Query", reason, "203.0.113.7")
    ]


async def test_a_method_that_does_not_exist_is_told_to_callers_only(house):
    path = "/pointsman.router.v1.RouterService/Guess"
    call = house.channel.unary_unary(path)
    assert (await refused(call(b"", timeout=60))).reason == errors_pb2.ERROR_REASON_CREDENTIAL_MISSING
    failure = await refused(call(b"", metadata=[KEY], timeout=60))
    assert failure.reason == errors_pb2.ERROR_REASON_METHOD_UNIMPLEMENTED
    in_the_url = house.channel.unary_unary(f"/pointsman.router.v1.RouterService/Query?key={API_KEY}")
    failure = await refused(in_the_url(b"", metadata=[KEY], timeout=60))
    assert (failure.reason_name, "leaked" in failure.message) == ("CREDENTIAL_INVALID", True)
    # Tools ask for the newest version of an open door first, and take the next one.
    newer = house.channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
    failure = await refused(newer(iter([b""]), timeout=60).read())
    assert failure.reason == errors_pb2.ERROR_REASON_METHOD_UNIMPLEMENTED


async def test_a_passport_counts_and_a_credential_beside_it_does_not(house):
    await query(house, *house.caller(tenant="acme"), KEY)
    assert house.peer.passports[0].tenant == "acme"
    failure = await refused(query(house, ("x-pointsman-passport", "forged"), KEY))
    assert failure.reason == errors_pb2.ERROR_REASON_PASSPORT_INVALID


async def test_a_credential_opens_no_internal_door(house):
    stub = audit_service_pb2_grpc.AuditTrailServiceStub(house.channel)
    call = stub.RecordEntries(audit_service_pb2.RecordEntriesRequest(), metadata=[KEY], timeout=60)
    assert (await refused(call)).reason == errors_pb2.ERROR_REASON_PASSPORT_INVALID


async def test_a_keys_scopes_and_account_hold_for_it(house):
    made = await house.api_keys.CreateKey(
        key_service_pb2.CreateKeyRequest(
            key=key_service_pb2.Key(title="reads", account="team-1", scopes=["sessions.read"])
        ),
        metadata=[KEY],
        timeout=60,
    )
    failure = await refused(query(house, ("authorization", f"Bearer {made.secret}")))
    assert failure.reason == errors_pb2.ERROR_REASON_SCOPE_MISSING


async def test_calls_are_counted_as_those_that_the_edge_asks_about(open_house, tmp_path):
    settings = tmp_path / "router.yaml"
    settings.write_text(json.dumps({"limits": {"tenants": {"default": {"requests_per_minute": 2}}}}))
    async with open_house(settings_file=settings) as house:
        for _ in range(2):
            await query(house, KEY)
        failure = await refused(query(house, KEY))
    assert failure.reason == errors_pb2.ERROR_REASON_RATE_LIMITED
    assert failure.retry_after is not None
