"""A runner that was killed knows what its turns had said and whether they may have acted."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import grpc
import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.runner.v1 import runner_service_pb2 as pb
from pointsman.session.v1 import turn_pb2
from runner.names import TurnRef
from runner.turns.journal import Journal, Past
from servicekit.errors import Failure
from servicekit.testing import Keys, wait_until
from support.runner_house import RunnerHouse, TurnResult, new_id, runner_house
from support.scripted_anthropic import Reply

OpenRunner = Callable[..., Any]
TOUCH = Reply.tool("Bash", {"command": "touch x", "description": "Touch"})
LONG = Reply.tool("Bash", {"command": "sleep 30", "description": "Sleep"})


class Crash:
    """What is on disk when the runner is killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def taken(self, house: RunnerHouse) -> None:
        shutil.copytree(house.data_dir / "runner" / "turns", self.folder / "runner" / "turns")

    def after(self, keys: Keys) -> AbstractAsyncContextManager[RunnerHouse]:
        return runner_house(keys, self.folder)


@pytest.fixture
def crash(tmp_path: Path) -> Crash:
    """`taken(house)` keeps what is on disk now, and `after(keys)` is a runner on that."""
    return Crash(tmp_path / "after")


async def attached(house: RunnerHouse, turn: str, **fields: Any) -> tuple[TurnResult, Failure | None]:
    """Follow a turn that ran before; return what it said and why that ended."""
    result = TurnResult()
    request = pb.RunTurnRequest(
        turn=turn, account="default", model="test/model", attach_only=True, **{"epoch": 2, **fields}
    )
    try:
        async for item in house.follow(request):
            result.items.append(item)
    except grpc.aio.AioRpcError as error:
        return result, Failure.from_rpc_error(error, service="runner")
    return result, None


async def test_a_turn_that_ended_is_told_again_from_where_it_is_asked(
    open_runner: OpenRunner, keys: Keys, crash: Crash
) -> None:
    async with open_runner([TOUCH, Reply.text("Done.")]) as house:
        request = house.request(new_id(), "Touch")
        told = TurnResult([item async for item in house.follow(request)])
        assert told.finished.outcome == turn_pb2.TURN_STATE_SUCCEEDED
        crash.taken(house)
    async with crash.after(keys) as after:
        again, failure = await attached(after, request.turn)
        assert failure is None
        assert again.items == [item for item in told.items if item.index]
        rest, failure = await attached(after, request.turn, after_index=3)
        assert rest.items == again.items[3:]
        # Whoever asks to run it gets the same, and nothing is run.
        once_more = [item async for item in after.follow(request)]
        assert once_more == again.items
        assert after.model.prompts == []


@pytest.mark.parametrize(
    ("reply", "acted"), [(LONG, True), (Reply(stall=True), False)], ids=["in a tool", "before any tool"]
)
async def test_a_turn_that_was_cut_says_whether_it_may_have_acted(
    open_runner: OpenRunner, keys: Keys, crash: Crash, reply: Reply, acted: bool
) -> None:
    async with open_runner([reply]) as house:
        seen = "tool_use" if acted else "sandbox_changed"
        request = house.request(new_id(), "Do it")
        told = TurnResult()
        async for item in house.follow(request):
            told.items.append(item)
            if seen in told.kinds:
                break
        await wait_until(lambda: bool(house.model.prompts))
        turns = Journal(house.data_dir / "runner" / "turns")
        ref = TurnRef.parse("acme", request.turn)
        await wait_until(lambda: past_of(turns, ref).acted == acted)
        crash.taken(house)
        stop = pb.CancelTurnRequest(turn=request.turn, epoch=1)
        await house.stub().CancelTurn(stop, metadata=house.metadata(), timeout=60)
    async with crash.after(keys) as after:
        again, failure = await attached(after, request.turn)
        assert failure is not None
        assert failure.reason == errors_pb2.ERROR_REASON_TURN_NOT_FOUND
        assert failure.metadata["acted"] == ("true" if acted else "false")
        assert seen in again.kinds


def past_of(journal: Journal, ref: TurnRef) -> Past:
    past = journal.read(ref)
    assert past is not None
    return past


async def test_of_a_turn_that_never_came_it_says_since_when_it_would_know(open_runner: OpenRunner) -> None:
    async with open_runner() as house:
        _, failure = await attached(house, house.request(new_id(), "").turn)
        assert failure is not None
        assert failure.reason == errors_pb2.ERROR_REASON_TURN_NOT_FOUND
        assert int(failure.metadata["since"]) > 0


async def test_an_owner_whose_lease_was_lost_before_the_kill_learns_nothing(
    open_runner: OpenRunner, keys: Keys, crash: Crash
) -> None:
    async with open_runner([Reply.text("Hi.")]) as house:
        request = house.request(new_id(), "Hi", epoch=5)
        async for _ in house.follow(request):
            pass
        crash.taken(house)
    async with crash.after(keys) as after:
        again, failure = await attached(after, request.turn, epoch=4)
        assert again.items == []
        assert failure is not None
        assert failure.reason == errors_pb2.ERROR_REASON_LEASE_LOST


async def test_no_tool_runs_when_it_cannot_be_noted(
    open_runner: OpenRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("runner.turns.journal.os.fdatasync", full)
    async with open_runner([TOUCH, Reply.text("Then not.")]) as house:
        session = new_id()
        result = await house.run(session, "Touch")
        (answer,) = result.of("tool_result")
        assert answer.is_error
        assert "could not note" in answer.content
        assert await house.list(session) == []


async def test_a_deleted_session_leaves_no_journal(open_runner: OpenRunner) -> None:
    async with open_runner([Reply.text("Hi.")]) as house:
        session = new_id()
        await house.run(session, "Hi")
        files = house.data_dir / "runner" / "turns"
        assert [path.name for path in files.glob("*/*")] == [session]
        request = pb.DeleteSandboxRequest(session=f"sessions/{session}")
        await house.stub().DeleteSandbox(request, metadata=house.metadata(), timeout=60)
        assert list(files.glob("*/*")) == []
