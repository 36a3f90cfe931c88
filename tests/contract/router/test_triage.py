"""Where prompts go, as the session service and the caller see it."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.llm.v1 import llm_service_pb2, llm_service_pb2_grpc
from pointsman.router.v1 import router_service_pb2 as pb
from pointsman.session.v1 import event_pb2, turn_pb2
from servicekit.context import current_passport
from servicekit.errors import Failure
from servicekit.serving import Servicer
from servicekit.testing import serve

DIRECT = turn_pb2.TURN_ROUTE_DIRECT
AGENT = turn_pb2.TURN_ROUTE_AGENT


def settings(tmp_path: Path, **triage: Any) -> Path:
    path = tmp_path / "router.yaml"
    path.write_text(json.dumps({"triage": triage}))
    return path


async def start(house: Any, prompt: str, **fields: Any) -> event_pb2.TriageDecided:
    """Start a turn and return what the session service is told of triage."""
    request = pb.StartTurnRequest(prompt=prompt, **fields)
    await house.router.StartTurn(request, metadata=house.caller(), timeout=60)
    decided: event_pb2.TriageDecided = house.peer.enqueued[-1].preface[-1].triage_decided
    assert decided.route == house.peer.enqueued[-1].route
    return decided


async def test_a_short_question_goes_straight_to_a_model_and_may_still_become_an_agent(house):
    decided = await start(house, "What is 2+2?")
    assert (decided.route, decided.decided_by) == (DIRECT, "rule:question")
    assert decided.reason
    assert decided.confidence == 1
    assert decided.duration.nanos > 0
    assert house.peer.enqueued[-1].may_escalate


async def test_work_goes_to_an_agent(house):
    decided = await start(house, "Create hello.py that prints hello world, then run it")
    assert (decided.route, decided.decided_by) == (AGENT, "rule:work")
    assert not house.peer.enqueued[-1].may_escalate


@pytest.mark.parametrize("route", [DIRECT, AGENT])
async def test_the_caller_may_force_either(house, route):
    decided = await start(house, "What is 2+2?", route=route)
    assert (decided.route, decided.decided_by) == (route, "caller")
    assert not house.peer.enqueued[-1].may_escalate


async def test_an_output_schema_takes_an_agent(house):
    options = turn_pb2.TurnOptions()
    options.output_schema.update({"type": "object"})
    assert (await start(house, "What is 2+2?", options=options)).decided_by == "option"


@pytest.mark.parametrize(
    "option", [{"max_budget_usd": 0.5}, {"effort": turn_pb2.EFFORT_LOW}, {"max_thinking_tokens": 9}]
)
async def test_what_only_agents_have_takes_an_agent_and_is_no_direct_turns(house, option):
    options = turn_pb2.TurnOptions(**option)
    decided = await start(house, "What is 2+2?", options=options)
    assert (decided.route, decided.decided_by) == (AGENT, "option")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await start(house, "What is 2+2?", options=options, route=DIRECT)
    failure = Failure.from_rpc_error(caught.value, "router")
    assert failure.reason == errors_pb2.ERROR_REASON_INVALID_FIELD
    assert failure.fields[0][0] == f"options.{next(iter(option))}"


async def test_what_a_policy_refuses_is_never_queued(open_house, tmp_path):
    rule = {"name": "no-payroll", "when": {"pattern": "payroll"}, "outcome": "refuse", "reason": "Ask HR."}
    async with open_house(settings_file=settings(tmp_path, rules=[rule])) as house:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await start(house, "show me the payroll", route=AGENT)
    failure = Failure.from_rpc_error(refused.value, "router")
    assert failure.reason == errors_pb2.ERROR_REASON_REFUSED_BY_POLICY
    assert (failure.message, failure.metadata) == ("Ask HR.", {"rule": "no-payroll"})
    assert house.peer.enqueued == []


class SmallModel(llm_service_pb2_grpc.LlmServiceServicer):
    """Answers with a tool call of this input, or not at all."""

    def __init__(self, answer: dict[str, Any] | None) -> None:
        self.answer = answer
        self.asked: list[llm_service_pb2.CreateMessageRequest] = []
        self.tenants: list[str] = []

    async def CreateMessage(
        self, request: Any, context: Any
    ) -> AsyncIterator[llm_service_pb2.CreateMessageResponse]:
        self.asked.append(request)
        self.tenants.append(current_passport().tenant)
        if self.answer is None:
            raise Failure(errors_pb2.ERROR_REASON_PROVIDER_UNAVAILABLE, "Down.")
        call = llm_service_pb2.ToolCall(id="1", name="route")
        call.input.update(self.answer)
        yield llm_service_pb2.CreateMessageResponse(tool_call=call)
        finished = llm_service_pb2.MessageFinished(usage=turn_pb2.Usage(input_tokens=90, cost_usd=0.001))
        yield llm_service_pb2.CreateMessageResponse(finished=finished)


@pytest.fixture
def with_model(open_house: Any, keys: Any, tmp_path: Path) -> Any:
    @asynccontextmanager
    async def house(model: SmallModel) -> AsyncIterator[Any]:
        servicer = Servicer(
            llm_service_pb2_grpc.add_LlmServiceServicer_to_server,
            model,
            llm_service_pb2.DESCRIPTOR.services_by_name["LlmService"],
        )
        file = settings(tmp_path, model={"model": "groq/small", "min_confidence": 0.6})
        async with (
            serve(servicer, keys=keys, service="llm-proxy") as llm,
            open_house(settings_file=file, llm_proxy_address=llm.server.address) as running,
        ):
            yield running

    return house


async def test_where_no_rule_fits_the_small_model_decides_and_its_cost_is_told(with_model):
    model = SmallModel({"route": "direct", "confidence": 0.9, "reason": "Small talk."})
    async with with_model(model) as house:
        decided = await start(house, "Hello there", account="team-1")
    assert (decided.route, decided.decided_by, decided.reason) == (DIRECT, "model:groq/small", "Small talk.")
    assert decided.confidence == 0.9
    assert (decided.usage.input_tokens, decided.usage.cost_usd) == (90, 0.001)
    (asked,) = model.asked
    assert (asked.model, asked.forced_tool, asked.scope.account) == ("groq/small", "route", "team-1")
    assert model.tenants == ["acme"]


async def test_a_repeated_request_does_not_ask_the_small_model_again(with_model):
    model = SmallModel({"route": "direct", "confidence": 0.9, "reason": "Small talk."})
    request = pb.StartTurnRequest(prompt="Hello there", request_id=str(uuid.uuid4()))
    async with with_model(model) as house:
        answers = [
            await house.router.StartTurn(request, metadata=house.caller(), timeout=60) for _ in range(3)
        ]
    assert answers[0] == answers[1] == answers[2]
    assert len(model.asked) == 1


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {"route": "direct", "confidence": 0.3, "reason": "Unsure."},
        {"route": "sudo", "confidence": 1, "reason": "x"},
        {"route": "direct", "confidence": "very"},
        {},
    ],
)
async def test_a_model_that_fails_or_is_unsure_decides_nothing(with_model, answer):
    async with with_model(SmallModel(answer)) as house:
        decided = await start(house, "Hello there")
    assert (decided.route, decided.decided_by) == (AGENT, "default")
