"""Session tokens open what they were given out for, as long as they were given out for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from llm_proxy.ledger.database import open_database
from llm_proxy.ledger.scopes import Payer
from llm_proxy.stopping import Demand
from llm_proxy.tokens import SessionTokens
from pointsman.llm.v1 import llm_service_pb2 as pb
from servicekit.drain import Drain
from servicekit.errors import Failure
from servicekit.passport import PASSPORT_HEADER
from servicekit.testing import wait_until
from support.files import contents
from support.llm_proxy_house import ProxyHouse, proxy_house

MODEL = "demo/offline"
ASK = {"model": MODEL, "max_tokens": 5, "messages": [{"role": "user", "content": "2+2"}]}


async def reason(house: ProxyHouse, headers: dict[str, str]) -> tuple[int, str]:
    reply = await house.post("/v1/messages", ASK, headers)
    return reply.status, reply.headers.get("x-pointsman-reason", "OK")


async def test_a_token_is_shown_as_bearer_or_as_api_key(demo: ProxyHouse) -> None:
    token = await demo.token()
    assert await reason(demo, {"authorization": f"Bearer {token}"}) == (200, "OK")
    assert await reason(demo, {"x-api-key": token}) == (200, "OK")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, "CREDENTIAL_MISSING"),
        ({"authorization": "Basic eA=="}, "CREDENTIAL_MISSING"),
        ({"authorization": "Bearer wrong"}, "CREDENTIAL_INVALID"),
        ({"x-api-key": "sk-ant-api03-somebodys"}, "CREDENTIAL_INVALID"),
        ({PASSPORT_HEADER: "eyJ.wrong.one"}, "PASSPORT_INVALID"),
    ],
)
async def test_anything_else_is_refused(demo: ProxyHouse, headers: dict[str, str], expected: str) -> None:
    assert await reason(demo, headers) == (401, expected)


async def test_a_revoked_token_is_refused_within_a_second_and_others_stay(demo: ProxyHouse) -> None:
    first = await demo.token(session="sessions/a", turn="sessions/a/turns/1")
    second = await demo.token(session="sessions/a", turn="sessions/a/turns/2")
    assert await reason(demo, {"x-api-key": first}) == (200, "OK")
    request = pb.RevokeSessionTokenRequest(session="sessions/a", turn="sessions/a/turns/1")
    await demo.llm.RevokeSessionToken(request, metadata=demo.internal(), timeout=60)
    assert await reason(demo, {"x-api-key": first}) == (401, "CREDENTIAL_REVOKED")
    assert await reason(demo, {"x-api-key": second}) == (200, "OK")
    request = pb.RevokeSessionTokenRequest(session="sessions/a")
    await demo.llm.RevokeSessionToken(request, metadata=demo.internal(), timeout=60)
    assert await reason(demo, {"x-api-key": second}) == (401, "CREDENTIAL_REVOKED")


async def test_in_a_drain_agents_are_still_served_and_callers_from_outside_are_not(demo: ProxyHouse) -> None:
    token = await demo.token()
    demo.running.server.drain.start()
    assert await reason(demo, {"x-api-key": token}) == (200, "OK")
    outside = dict(demo.public())
    assert await reason(demo, outside) == (503, "SERVICE_DRAINING")


async def test_a_stop_waits_for_turns_that_have_a_token_and_no_longer(tmp_path: Path) -> None:
    async with open_database(f"sqlite:///{tmp_path}/ledger.db") as database:
        now = 1000.0
        tokens = SessionTokens(database, clock=lambda: now)
        demand = Demand(tokens, Drain())
        await demand.settle(grace=0.0)
        payer = Payer("acme", "main", "sessions/a", "sessions/a/turns/1")
        token, _ = await tokens.issue(payer, "somebody")
        stopping = asyncio.create_task(demand.settle(grace=60.0))
        await asyncio.wait({stopping}, timeout=0.5)
        assert not stopping.done()
        await tokens.revoke("acme", "sessions/a", "sessions/a/turns/1")
        async with asyncio.timeout(10):
            await stopping
        # Of a turn whose runner was killed nobody takes the token back.
        token, _ = await tokens.issue(payer, "somebody")
        now += 59
        assert await tokens.in_use()
        await tokens.check(token)
        now += 59
        assert await tokens.in_use()
        now += 2
        assert not await tokens.in_use()


async def test_nobody_revokes_another_tenants_tokens(demo: ProxyHouse) -> None:
    token = await demo.token(session="sessions/a")
    request = pb.RevokeSessionTokenRequest(session="sessions/a")
    await demo.llm.RevokeSessionToken(request, metadata=demo.internal("globex"), timeout=60)
    assert await reason(demo, {"x-api-key": token}) == (200, "OK")


async def test_a_token_ends_when_its_time_is_over(demo: ProxyHouse) -> None:
    token = await demo.token(ttl=Duration(nanos=200_000_000))

    async def over() -> bool:
        return await reason(demo, {"x-api-key": token}) == (401, "CREDENTIAL_EXPIRED")

    await wait_until(over)


async def test_no_token_lasts_longer_than_an_hour(demo: ProxyHouse) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await demo.token(ttl=Duration(seconds=3601))
    assert Failure.from_rpc_error(caught.value, "llm-proxy").reason_name == "INVALID_FIELD"


async def test_a_token_is_for_its_models_only(demo: ProxyHouse, tmp_path: Path) -> None:
    async with proxy_house(tmp_path / "other", {"GROQ_API_KEY": "gsk-0123456789"}) as house:
        token = await house.token(models=["groq/openai/gpt-oss-20b"])
        reply = await house.ask(token, MODEL)
    assert (reply.status, reply.headers["x-pointsman-reason"]) == (403, "SCOPE_MISSING")
    assert "groq/openai/gpt-oss-20b" in reply.json["error"]["message"]


async def test_a_token_is_for_its_session_only(demo: ProxyHouse) -> None:
    token = await demo.token(session="sessions/a")
    assert await reason(demo, {"x-api-key": token, "x-pointsman-session": "sessions/a"}) == (200, "OK")
    elsewhere = {"x-api-key": token, "x-pointsman-session": "sessions/b"}
    assert await reason(demo, elsewhere) == (401, "CREDENTIAL_INVALID")


async def test_through_the_edge_the_passport_counts_and_a_stolen_token_does_not(demo: ProxyHouse) -> None:
    stolen = await demo.token(tenant="acme")
    passport = dict(demo.public(tenant="globex"))[PASSPORT_HEADER]
    assert await reason(demo, {PASSPORT_HEADER: passport, "x-api-key": stolen}) == (200, "OK")
    [nothing] = await demo.usage(tenant="acme")
    assert nothing.usage.model_calls == 0
    [row] = await demo.usage(1, tenant="globex")
    assert (row.account, row.usage.model_calls) == ("default", 1)


async def test_a_pinned_passport_is_billed_to_its_account(demo: ProxyHouse) -> None:
    passport = dict(demo.public(account="alice"))[PASSPORT_HEADER]
    assert await reason(demo, {PASSPORT_HEADER: passport}) == (200, "OK")
    [row] = await demo.usage(1)
    assert row.account == "alice"


async def test_tokens_are_kept_hashed(demo: ProxyHouse) -> None:
    token = await demo.token()
    files = list(contents(demo.data_dir / "llm-proxy").values())
    assert files
    assert all(token.encode() not in content for content in files)


async def test_tokens_and_ledger_survive_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The turn goes on: nobody takes its token back, and the stop is not to wait for it.
    monkeypatch.setattr("llm_proxy.tokens._IN_USE_SECONDS", 0.0)
    async with proxy_house(tmp_path) as house:
        token = await house.token()
        house.issued.clear()
        await house.ask(token, MODEL)
    async with proxy_house(tmp_path) as house:
        assert (await house.ask(token, MODEL)).status == 200
        [row] = await house.usage()
    assert row.usage.model_calls == 2
