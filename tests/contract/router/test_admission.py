"""Limits: refused at once, typed, with the time to come back; one tenant's flood is not another's."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.router.v1 import router_service_pb2 as pb
from servicekit.errors import Failure
from servicekit.testing import wait_until
from support.router_edge import added, ask, reason_of
from support.router_house import API_KEY
from support.router_peers import ANSWER, SessionPeer


def limits(tmp_path: Path, **section: Any) -> Path:
    path = tmp_path / "router.yaml"
    path.write_text(json.dumps({"limits": section}))
    return path


async def query(house: Any, **caller: Any) -> Any:
    request = pb.QueryRequest(query="hi", account_id=caller.pop("account_id", ""))
    return await house.router.Query(request, metadata=house.caller(**caller), timeout=60)


async def refusal(call: Any) -> Failure:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return Failure.from_rpc_error(refused.value, "router")


async def test_too_many_calls_are_refused_at_the_edge_with_the_time_to_come_back(open_house, tmp_path):
    file = limits(tmp_path, default={"requests_per_minute": 3})
    async with open_house(settings_file=file) as house:
        for _ in range(3):
            assert (await ask(house, API_KEY)).status.code == 0
        refused = await ask(house, API_KEY)
        assert reason_of(refused) == "RATE_LIMITED"
        assert refused.denied_response.status.code == 429
        assert 1 <= int(added(refused)["retry-after"]) <= 60
        details = json.loads(refused.denied_response.body)["details"]
        assert details[1]["@type"].endswith("RetryInfo")
        over_grpc = await ask(house, API_KEY, content_type="application/grpc")
        assert added(over_grpc)["grpc-status"] == "8"


async def test_an_accounts_turns_are_limited_and_other_accounts_go_on(open_house, tmp_path):
    file = limits(tmp_path, default={"account": {"turns_per_minute": 2}})
    async with open_house(settings_file=file) as house:
        for _ in range(2):
            await query(house)
        failure = await refusal(query(house))
        assert failure.reason == errors_pb2.ERROR_REASON_RATE_LIMITED
        assert failure.metadata == {"limit": "2", "scope": "account"}
        assert failure.retry_after is not None
        await query(house, account_id="other")


async def test_turns_at_once_are_limited_per_tenant_and_a_place_is_free_again_after(open_house, tmp_path):
    file = limits(tmp_path, tenants={"acme": {"concurrent_turns": 2}})
    async with open_house(SessionPeer(script=ANSWER[:2]), settings_file=file) as house:
        running = [asyncio.create_task(query(house)) for _ in range(2)]
        await wait_until(lambda: house.peer.open_streams == 2)
        failure = await refusal(query(house))
        # At once, and not when a place is free: nobody gives one back.
        assert house.peer.open_streams == 2
        assert failure.reason == errors_pb2.ERROR_REASON_QUOTA_EXCEEDED
        assert failure.retry_after is not None
        for task in running:
            task.cancel()
        await wait_until(lambda: house.peer.open_streams == 0)
        house.peer.script = ANSWER
        await query(house)


async def test_in_a_full_house_a_tenant_below_its_share_still_gets_in(open_house, tmp_path):
    file = limits(tmp_path, concurrent_turns=4)
    async with open_house(SessionPeer(script=ANSWER[:2]), settings_file=file) as house:
        flood = [asyncio.create_task(query(house, tenant="flood")) for _ in range(4)]
        await wait_until(lambda: house.peer.open_streams == 4)
        failure = await refusal(query(house, tenant="flood"))
        assert failure.reason == errors_pb2.ERROR_REASON_QUOTA_EXCEEDED
        house.peer.script = ANSWER
        await query(house, tenant="small")
        for task in flood:
            task.cancel()


async def test_limits_and_what_is_left_of_them_can_be_seen(open_house, tmp_path):
    file = limits(
        tmp_path, default={"concurrent_turns": 5, "turns_per_minute": 10, "account": {"turns_per_minute": 7}}
    )
    async with open_house(settings_file=file) as house:
        await query(house)
        answer = await house.router.GetQuota(pb.GetQuotaRequest(), metadata=house.caller())
        left = {(quota.name, quota.scope): (quota.limit, quota.remaining) for quota in answer.quotas}
        assert left == {
            ("turns", "tenant"): (10, 9),
            ("concurrent_turns", "tenant"): (5, 5),
            ("turns", "account"): (7, 6),
        }
        assert answer.quotas[0].window.seconds == 60
        assert answer.quotas[0].reset_time.seconds > time.time() - 1
