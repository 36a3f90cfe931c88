"""Templates, shared folders and limits of accounts at a real installation, through the edge."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.router.v1 import audit_service_pb2, key_service_pb2
from pointsman.session.v1 import session_service_pb2, turn_pb2, workspace_service_pb2
from pointsman_client import AsyncClient, NotFound, PermissionDenied
from servicekit.testing import wait_until
from support.shell_clients import curl

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]


def rest(suite: Any, verb: str, path: str, body: object = None, key: str = "") -> tuple[int, dict[str, Any]]:
    headers = ["-H", f"Authorization: Bearer {key or suite.key}", "-H", "Content-Type: application/json"]
    data = [] if body is None else ["-d", json.dumps(body)]
    status, answer = curl(f"{suite.url}{path}", "-X", verb, *headers, *data)
    return status, json.loads(answer)


async def write(client: AsyncClient, session: str, path: str, data: bytes) -> None:
    request = workspace_service_pb2.WriteFileRequest(session=session, path=path, data=data)
    await client.call(client.workspace.WriteFile(request, timeout=60))


async def delete(client: AsyncClient, session: str) -> None:
    request = session_service_pb2.DeleteSessionRequest(name=session)
    await client.call(client.sessions.DeleteSession(request, timeout=60))


async def finished(client: AsyncClient, prompt: str, session: str) -> turn_pb2.TurnFinished:
    ends = [
        event.turn_finished
        async for event in client.run_turn(prompt, session=session, route=turn_pb2.TURN_ROUTE_AGENT)
        if event.HasField("turn_finished")
    ]
    return ends[0]


async def test_agents_of_new_sessions_find_the_files_of_their_template(suite: Any):
    async with AsyncClient(suite.url, suite.key) as client:
        source = await client.create_session("authors")
        await write(client, source.name, "docs/handbook.md", b"Chapter one.\n")
        status, made = rest(
            suite,
            "POST",
            "/v1/templates",
            {
                "template": {"name": "templates/handbook", "title": "Handbook", "options": {"maxTurns": 4}},
                "source": source.name,
            },
        )
        assert (status, made["template"]["sizeBytes"]) == (200, "13"), made
        await delete(client, source.name)
        status, made = rest(
            suite,
            "POST",
            "/v1/sessions",
            {"account": "readers", "session": {"template": "templates/handbook"}},
        )
        assert status == 200, made
        session = made["session"]["name"]
        assert made["session"]["defaultOptions"]["maxTurns"] == 4
        assert await client.read_file(session, "docs/handbook.md") == b"Chapter one.\n"
        end = await finished(client, "Run `cat docs/handbook.md`", session)
        assert "Chapter one." in end.result
        # What its agent does to the files is its own business.
        await finished(client, "Run `echo spoilt > docs/handbook.md`", session)
        other = await client.create_session("readers", template="templates/handbook")
        assert await client.read_file(other.name, "docs/handbook.md") == b"Chapter one.\n"
    assert rest(suite, "GET", "/v1/templates?account=readers")[1]["templates"][0]["title"] == "Handbook"
    changed = {"name": "templates/handbook", "title": "Book"}
    assert rest(suite, "PATCH", "/v1/templates/handbook?updateMask=title", changed)[0] == 200
    assert rest(suite, "GET", "/v1/templates/handbook")[1]["template"]["title"] == "Book"
    assert rest(suite, "DELETE", "/v1/templates/handbook")[0] == 200
    status, answer = rest(suite, "GET", "/v1/templates/handbook")
    assert (status, answer["details"][0]["reason"]) == (404, "TEMPLATE_NOT_FOUND")


async def test_an_agent_reads_the_folders_that_its_session_shares_and_nobody_elses(suite: Any):
    async with AsyncClient(suite.url, suite.key) as client:
        source = await client.create_session("team")
        await write(client, source.name, "docs/guide.md", b"first edition\n")
        folder = session_service_pb2.SharedFolder(session=source.name, path="docs", name="guides")
        shared = session_service_pb2.Session(shared_folders=[folder])
        with pytest.raises(NotFound):
            await client.create_session("others", session=shared)
        reader = await client.create_session("team", session=shared)
        end = await finished(client, "Run `cat /shared/guides/guide.md`", reader.name)
        assert "first edition" in end.result
        await write(client, source.name, "docs/guide.md", b"second edition\n")
        end = await finished(client, "Run `cat /shared/guides/guide.md`", reader.name)
        assert "second edition" in end.result
        await finished(client, "Run `echo x > /shared/guides/guide.md`", reader.name)
        assert await client.read_file(source.name, "docs/guide.md") == b"second edition\n"
        await delete(client, source.name)
        end = await finished(client, "Run `cat /shared/guides/guide.md`", reader.name)
        assert end.error.reason == errors_pb2.ERROR_REASON_SHARED_FOLDER_NOT_FOUND


async def test_an_operator_sets_how_much_of_an_account_goes_on_at_once(suite: Any):
    async with AsyncClient(suite.url, suite.key) as owner:

        async def key(role: key_service_pb2.KeyRole.ValueType) -> str:
            request = key_service_pb2.CreateKeyRequest(
                key=key_service_pb2.Key(tenant="limited", account="crowd", role=role)
            )
            return str((await owner.call(owner.keys.CreateKey(request, timeout=60))).secret)

        member, operator = (
            await key(key_service_pb2.KEY_ROLE_MEMBER),
            await key(key_service_pb2.KEY_ROLE_OPERATOR),
        )
    limit = {"name": "accounts/crowd", "maxConcurrentTurns": 2}
    path = "/v1/accounts/crowd?updateMask=maxConcurrentTurns"
    status, answer = rest(suite, "PATCH", path, limit, key=member)
    assert (status, answer["details"][0]["reason"]) == (403, "SCOPE_MISSING")
    async with AsyncClient(suite.url, member) as client:
        sessions = [await client.create_session() for _ in range(2)]
        waiting = "Run `until [ -e go ]; do sleep 0.1; done`"
        turns = [asyncio.create_task(finished(client, waiting, session.name)) for session in sessions]

        def running() -> int:
            _, answer = rest(suite, "GET", "/v1/accounts/crowd", key=member)
            return int(answer["account"].get("runningTurns", 0))

        await wait_until(lambda: running() == 1, 60)
        status, answer = rest(suite, "PATCH", path, limit, key=operator)
        assert (status, answer["account"]["effectiveMaxConcurrentTurns"]) == (200, 2)
        await wait_until(lambda: running() == 2, 60)
        for session in sessions:
            await write(client, session.name, "go", b"")
        ends = await asyncio.gather(*turns)
        assert {end.outcome for end in ends} == {turn_pb2.TURN_STATE_SUCCEEDED}
        status, listed = rest(suite, "GET", "/v1/accounts", key=member)
        assert [account["name"] for account in listed["accounts"]] == ["accounts/crowd"]


async def test_changes_of_templates_and_limits_are_in_the_audit_log_once(suite: Any):
    async with AsyncClient(suite.url, suite.key) as owner:
        request = key_service_pb2.CreateKeyRequest(
            key=key_service_pb2.Key(tenant="told", role=key_service_pb2.KEY_ROLE_ADMIN)
        )
        key = (await owner.call(owner.keys.CreateKey(request, timeout=60))).secret
    template = {"template": {"name": "templates/t"}}
    assert rest(suite, "POST", "/v1/templates", template, key=key)[0] == 200
    assert rest(suite, "POST", "/v1/templates", template, key=key)[0] == 409
    limit = {"name": "accounts/a", "maxConcurrentTurns": 3}
    path = "/v1/accounts/a?updateMask=maxConcurrentTurns"
    assert rest(suite, "PATCH", path, limit, key=key)[0] == 200
    assert rest(suite, "DELETE", "/v1/templates/t", key=key)[0] == 200
    async with AsyncClient(suite.url, key) as client:

        async def told() -> list[tuple[str, str, str]]:
            wanted = audit_service_pb2.ExportAuditEntriesRequest()
            entries = [answer.entry async for answer in client.audit.ExportAuditEntries(wanted, timeout=60)]
            return [
                (entry.method.rpartition("/")[2], entry.resource, entry.reason or entry.code)
                for entry in entries
            ]

        async def complete() -> bool:
            return len(await told()) >= 4

        await wait_until(complete, 60)
        assert await told() == [
            ("CreateTemplate", "templates/t", "OK"),
            ("CreateTemplate", "templates/t", "TEMPLATE_EXISTS"),
            ("UpdateAccount", "accounts/a", "OK"),
            ("DeleteTemplate", "templates/t", "OK"),
        ]


async def test_a_viewer_sees_templates_and_makes_none(suite: Any):
    async with AsyncClient(suite.url, suite.key) as owner:
        request = key_service_pb2.CreateKeyRequest(
            key=key_service_pb2.Key(role=key_service_pb2.KEY_ROLE_VIEWER)
        )
        key = (await owner.call(owner.keys.CreateKey(request, timeout=60))).secret
    assert rest(suite, "GET", "/v1/templates", key=key)[0] == 200
    async with AsyncClient(suite.url, key) as viewer:
        with pytest.raises(PermissionDenied):
            await viewer.create_session(template="templates/x")
    assert rest(suite, "POST", "/v1/templates", {"template": {"name": "templates/v"}}, key=key)[0] == 403
