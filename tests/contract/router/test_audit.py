"""The audit log: every change once, the refused ones too, and nobody else's."""

from __future__ import annotations

import sqlite3
import uuid
from typing import Any

import grpc.aio
import pytest
from pointsman.router.v1 import audit_service_pb2 as pb
from pointsman.router.v1 import audit_service_pb2_grpc, key_service_pb2, router_service_pb2
from servicekit.audit import audit_trail_to_router
from servicekit.testing import wait_until
from support.router_edge import ask

QUERY = "pointsman.router.v1.RouterService/Query"


async def entries(house: Any, caller: Any = None, **wanted: Any) -> list[pb.AuditEntry]:
    request = pb.ListAuditEntriesRequest(filter=pb.AuditFilter(**wanted))
    answer = await house.audit.ListAuditEntries(request, metadata=caller or house.caller(), timeout=60)
    return list(answer.entries)


async def settled(house: Any, count: int, caller: Any = None) -> list[pb.AuditEntry]:
    """The entries, once there are so many."""
    found: list[pb.AuditEntry] = []

    async def enough() -> bool:
        found[:] = await entries(house, caller)
        return len(found) >= count

    await wait_until(enough)
    assert len(found) == count
    return found


async def query(house: Any, caller: Any = None, text: str = "What is 2+2?") -> Any:
    request = router_service_pb2.QueryRequest(query=text)
    metadata = (*(caller or house.caller()), ("x-forwarded-for", "198.51.100.1, 203.0.113.7"))
    return await house.router.Query(request, metadata=metadata, timeout=60)


async def test_a_change_is_in_the_log_once_with_who_what_where_and_outcome(house):
    answer = await query(house)
    (entry,) = await settled(house, 1)
    assert (entry.tenant, entry.principal, entry.credential) == ("acme", "tester", "key-1")
    assert (entry.method, entry.resource, entry.account) == (QUERY, answer.turn, "default")
    assert (entry.code, entry.reason, entry.source_address) == ("OK", "", "203.0.113.7")
    assert entry.request_id == "test-request"
    assert entry.create_time.seconds > 0
    assert entry.prompt == ""


async def test_prompts_are_kept_where_the_operator_wants_it(open_house):
    async with open_house(audit_prompts=True) as house:
        await query(house, text="remember me")
        (entry,) = await settled(house, 1)
        assert entry.prompt == "remember me"


async def test_what_is_refused_is_in_the_log_too(house):
    viewer = house.caller(scopes={"viewer"}, principal="looker")
    with pytest.raises(grpc.aio.AioRpcError):
        await query(house, viewer)
    (entry,) = await settled(house, 1)
    assert (entry.principal, entry.code, entry.reason) == ("looker", "PERMISSION_DENIED", "SCOPE_MISSING")


async def test_looking_changes_nothing_and_leaves_no_entry(house):
    await house.api_keys.ListKeys(key_service_pb2.ListKeysRequest(), metadata=house.caller())
    await entries(house)
    await query(house)
    await settled(house, 1)


async def test_a_refused_credential_is_an_entry_that_only_owners_see(house):
    await ask(house, "wrong", path="/v1/sessions?page_size=1", x_request_id="r-1")
    await query(house)
    owner = house.caller(scopes={"owner"})
    stranger = (await settled(house, 2, owner))[-1]
    assert (stranger.method, stranger.reason) == ("POST /v1/sessions", "CREDENTIAL_INVALID")
    assert (stranger.source_address, stranger.request_id) == ("203.0.113.7", "r-1")
    assert len(await entries(house)) == 1


async def test_a_tenant_sees_its_own_and_a_pinned_caller_its_account(house):
    await query(house, house.caller(account="mine"))
    await query(house)
    await settled(house, 2)
    assert await entries(house, house.caller(tenant="other")) == []
    (pinned,) = await entries(house, house.caller(account="mine"))
    assert pinned.account == "mine"


async def test_entries_can_be_searched_paged_and_exported(house):
    turns = [(await query(house)).turn for _ in range(3)]
    await settled(house, 3)
    session = turns[0].split("/turns/")[0]
    assert [entry.resource for entry in await entries(house, resource=session)] == [turns[0]]
    assert await entries(house, code="NOT_FOUND") == []
    seen, token = [], ""
    for _ in range(2):
        request = pb.ListAuditEntriesRequest(page_size=2, page_token=token)
        page = await house.audit.ListAuditEntries(request, metadata=house.caller())
        seen += [entry.resource for entry in page.entries]
        token = page.next_page_token
    assert (seen, token) == (turns[::-1], "")
    exported = house.audit.ExportAuditEntries(pb.ExportAuditEntriesRequest(), metadata=house.caller())
    assert [answer.entry.resource async for answer in exported] == turns


async def test_no_entry_can_be_changed_or_deleted(house, tmp_path):
    await query(house)
    await settled(house, 1)
    with sqlite3.connect(tmp_path / "data" / "router" / "router.db") as database:
        for statement in ("UPDATE router_audit SET principal = ''", "DELETE FROM router_audit"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                database.execute(statement)


async def test_another_services_entries_arrive_once_and_outlive_the_routers_absence(open_house, keys):
    async with open_house() as house:
        address = house.started.server.address
    async with audit_trail_to_router(address, keys.signer("session")) as trail:
        trail.add(pb.AuditEntry(tenant="acme", method="a.B/C", code="OK"))
        async with open_house(address=address) as house:
            (entry,) = await settled(house, 1)
            stub = audit_service_pb2_grpc.AuditTrailServiceStub(house.channel)
            service = house.caller(scopes={"internal"})
            await stub.RecordEntries(pb.RecordEntriesRequest(entries=[entry]), metadata=service)
            assert len(await entries(house)) == 1
            forged = pb.RecordEntriesRequest(entries=[pb.AuditEntry(id=str(uuid.uuid4()))])
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.RecordEntries(forged, metadata=house.caller(scopes={"owner"}))
