"""Who did what, from every service, each change once, the refused ones too."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from contextlib import suppress
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from pointsman.router.v1 import audit_service_pb2, key_service_pb2
from pointsman.session.v1 import session_service_pb2, session_service_pb2_grpc, workspace_service_pb2
from pointsman_client import AsyncClient, PointsmanError
from servicekit.access import ACCESS, CHANGING, needed
from servicekit.testing import wait_until
from support.public_methods import METHODS, ids, request_of

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(180)]


async def make(owner: AsyncClient, role: key_service_pb2.KeyRole.ValueType, tenant: str = "audited") -> str:
    key = key_service_pb2.Key(tenant=tenant, role=role)
    return str((await owner.keys.CreateKey(key_service_pb2.CreateKeyRequest(key=key), timeout=60)).secret)


async def entries(admin: AsyncClient) -> list[audit_service_pb2.AuditEntry]:
    request = audit_service_pb2.ExportAuditEntriesRequest()
    return [answer.entry async for answer in admin.audit.ExportAuditEntries(request, timeout=60)]


def call(channel: grpc.Channel, method: MethodDescriptor, request: Message, key: str) -> tuple[str, str]:
    """Make a call to its end; return its id and its code."""
    kind = channel.unary_stream if method.server_streaming else channel.unary_unary
    stub: Any = kind(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    arguments = {"metadata": [("authorization", f"Bearer {key}")], "timeout": 60}
    if method.server_streaming:
        made = stub(request, **arguments)
        with suppress(grpc.RpcError):
            list(made)
    else:
        made = stub.future(request, **arguments)
        made.exception()
    headers = dict([*made.initial_metadata(), *made.trailing_metadata()])
    return headers["x-request-id"], made.code().name


async def test_each_method_that_changes_something_is_told_once_and_no_other(suite: Any):
    """Where it may succeed, on what is not there, and by somebody who may only look."""
    async with AsyncClient(suite.url, suite.key) as owner:
        admin_key = await make(owner, key_service_pb2.KEY_ROLE_ADMIN, "all-methods")
        viewer_key = await make(owner, key_service_pb2.KEY_ROLE_VIEWER, "all-methods")
    made: dict[str, tuple[str, str]] = {}

    def call_everything() -> None:
        with grpc.insecure_channel(f"localhost:{suite.port}") as channel:
            sessions = session_service_pb2_grpc.SessionServiceStub(channel)
            for method in METHODS:
                if method.name == "WatchEvents":
                    continue
                metadata = (("authorization", f"Bearer {admin_key}"),)
                request = session_service_pb2.CreateSessionRequest()
                new, ongoing = sessions.CreateSession.with_call(request, metadata=metadata, timeout=60)
                told: Any = ongoing.initial_metadata()
                made[dict(told)["x-request-id"]] = ("CreateSession", "OK")
                missing = f"sessions/{uuid.uuid4()}"
                for session, key in (
                    (missing, viewer_key),
                    (missing, admin_key),
                    (new.session.name, admin_key),
                ):
                    request_id, code = call(channel, method, request_of(method, session), key)
                    assert request_id not in made
                    made[request_id] = (ids(method), code)

    await asyncio.to_thread(call_everything)
    changes = {
        ids(method)
        for method in METHODS
        if needed(ACCESS, f"/{method.containing_service.full_name}/{method.name}") in CHANGING
    }
    expected = {
        request_id: code
        for request_id, (name, code) in made.items()
        if name in changes or name == "CreateSession"
    }
    async with AsyncClient(suite.url, admin_key) as admin:
        found: list[audit_service_pb2.AuditEntry] = []

        async def complete() -> bool:
            found[:] = [entry for entry in await entries(admin) if entry.request_id in made]
            return len(found) >= len(expected)

        await wait_until(complete, 60)
    assert sorted(entry.request_id for entry in found) == sorted(expected)
    assert {entry.request_id: entry.code for entry in found} == expected
    codes = Counter(expected.values())
    # Of all kinds: done, not there, not allowed.
    assert min(codes["OK"], codes["NOT_FOUND"], codes["PERMISSION_DENIED"]) >= 10, codes


async def test_each_change_is_told_once_by_whichever_service_made_it(suite: Any):
    async with AsyncClient(suite.url, suite.key) as owner:
        admin_key = await make(owner, key_service_pb2.KEY_ROLE_ADMIN)
        viewer_key = await make(owner, key_service_pb2.KEY_ROLE_VIEWER)
    async with AsyncClient(suite.url, admin_key) as admin, AsyncClient(suite.url, viewer_key) as viewer:
        made = await admin.sessions.CreateSession(
            session_service_pb2.CreateSessionRequest(account="team"), timeout=60
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
        await admin.sessions.GetSession(session_service_pb2.GetSessionRequest(name=name), timeout=60)
        await admin.sessions.DeleteSession(session_service_pb2.DeleteSessionRequest(name=name), timeout=60)

        found: list[audit_service_pb2.AuditEntry] = []

        async def complete() -> bool:
            found[:] = await entries(admin)
            return len(found) >= 6

        await wait_until(complete, 60)
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
