"""Who did what, from every service, each change once, the refused ones too."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from pointsman.router.v1 import audit_service_pb2, key_service_pb2
from pointsman.session.v1 import session_service_pb2, workspace_service_pb2
from pointsman_client import AsyncClient, PointsmanError
from servicekit.testing import wait_until

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(180)]


async def make(owner: AsyncClient, role: key_service_pb2.KeyRole.ValueType) -> str:
    key = key_service_pb2.Key(tenant="audited", role=role)
    return str((await owner.keys.CreateKey(key_service_pb2.CreateKeyRequest(key=key), timeout=20)).secret)


async def entries(admin: AsyncClient) -> list[audit_service_pb2.AuditEntry]:
    request = audit_service_pb2.ExportAuditEntriesRequest()
    return [answer.entry async for answer in admin.audit.ExportAuditEntries(request, timeout=20)]


async def test_each_change_is_told_once_by_whichever_service_made_it(suite: Any):
    async with AsyncClient(suite.url, suite.key) as owner:
        admin_key = await make(owner, key_service_pb2.KEY_ROLE_ADMIN)
        viewer_key = await make(owner, key_service_pb2.KEY_ROLE_VIEWER)
    async with AsyncClient(suite.url, admin_key) as admin, AsyncClient(suite.url, viewer_key) as viewer:
        made = await admin.sessions.CreateSession(
            session_service_pb2.CreateSessionRequest(account="team"), timeout=20
        )
        name = made.session.name
        await admin.ask("What is 2+2?", session=name, route=1)
        write = workspace_service_pb2.WriteFileRequest(session=name, path="a.txt", data=b"hi")
        await admin.workspace.WriteFile(write, timeout=30)
        with pytest.raises(PointsmanError):
            await viewer.call(
                viewer.sessions.DeleteSession(session_service_pb2.DeleteSessionRequest(name=name))
            )
        missing = f"sessions/{uuid.uuid4()}"
        with pytest.raises(PointsmanError):
            await admin.call(
                admin.sessions.DeleteSession(session_service_pb2.DeleteSessionRequest(name=missing))
            )
        await admin.sessions.GetSession(session_service_pb2.GetSessionRequest(name=name), timeout=20)
        await admin.sessions.DeleteSession(session_service_pb2.DeleteSessionRequest(name=name), timeout=30)

        found: list[audit_service_pb2.AuditEntry] = []

        async def complete() -> bool:
            found[:] = await entries(admin)
            return len(found) >= 6

        await wait_until(complete, 30)
    # Entries of different services may arrive in another order than they happened in.
    found.sort(key=lambda entry: entry.create_time.ToNanoseconds())
    told = [(entry.method.rpartition("/")[2], entry.reason or entry.code) for entry in found]
    assert told == [
        ("CreateSession", "OK"),
        ("StartTurn", "OK"),
        ("WriteFile", "OK"),
        ("DeleteSession", "SCOPE_MISSING"),
        ("DeleteSession", "SESSION_NOT_FOUND"),
        ("DeleteSession", "OK"),
    ]
    # Who may not call at all is refused before the request is read.
    assert found[3].resource == ""
    assert found[4].resource == missing
    assert all(found[index].resource.startswith(name) for index in (0, 1, 2, 5))
    assert {entry.source_address for entry in found} <= {"127.0.0.1", "::1"}
    assert len({entry.principal for entry in found}) == 2
    assert all(entry.request_id and not entry.prompt for entry in found)
