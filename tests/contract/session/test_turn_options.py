"""Options are checked when the turn is accepted, and the models of helpers are looked up."""

from __future__ import annotations

from typing import Any

import grpc.aio
import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import turn_pb2
from support.session_house import SessionHouse, failure_of


def helpers(**models: str) -> turn_pb2.TurnOptions:
    options = turn_pb2.TurnOptions()
    for name, model in models.items():
        options.agents[name].description = "Helps."
        options.agents[name].prompt = "You help."
        options.agents[name].model = model
    return options


async def test_the_models_of_helpers_are_looked_up_when_the_turn_is_accepted(house: SessionHouse) -> None:
    client = house.client()
    turn = await client.enqueue("say hi", options=helpers(one="", two="inherit", three="demo/other"))
    found = {name: agent.model for name, agent in turn.options.agents.items()}
    assert found == {"one": "", "two": "", "three": "demo/other"}
    await client.finish(turn)
    for model in ("sonnet", "opus", "haiku", "no/such"):
        for session in ("", turn.session):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.enqueue("say hi", session, options=helpers(checker=model))
            failure = failure_of(caught.value)
            assert failure.reason == errors_pb2.ERROR_REASON_MODEL_UNKNOWN
            assert failure.message.startswith("options.agents[checker].model: ")
            assert model in failure.message


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"type": "objekt"}, "options.output_schema"),
        ({"type": "array"}, "options.output_schema"),
        (
            {"type": "object", "properties": {"n": {"minimum": "x"}}},
            "options.output_schema.properties.n.minimum",
        ),
    ],
)
async def test_a_schema_that_is_none_is_refused(house: SessionHouse, schema: Any, place: str) -> None:
    options = turn_pb2.TurnOptions()
    options.output_schema.update(schema)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await house.client().enqueue("say hi", options=options)
    failure = failure_of(caught.value)
    assert failure.reason == errors_pb2.ERROR_REASON_INVALID_FIELD
    assert failure.message.startswith(f"{place}: ")
