"""What comes out of a sandbox is untrusted: a program in Claude Code's place that misbehaves in every way."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.runner.v1 import runner_service_pb2 as pb
from pointsman.session.v1 import turn_pb2
from servicekit.testing import wait_until
from support.runner_house import new_id

OpenRunner = Callable[..., Any]
PROTOCOL = errors_pb2.ERROR_REASON_SANDBOX_PROTOCOL
OUTPUT = errors_pb2.ERROR_REASON_OUTPUT_LIMIT
CRASHED = errors_pb2.ERROR_REASON_SANDBOX_CRASHED


@pytest.fixture(autouse=True)
def hostile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cli = tmp_path / "claude"
    cli.write_text(Path(__file__).with_name("hostile_cli.py").read_text())
    cli.chmod(0o755)
    monkeypatch.setattr("runner.app.CLI", cli)


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("garbage", PROTOCOL),
        ("endless-line", OUTPUT),
        ("flood", OUTPUT),
        ("deltas", OUTPUT),
        ("deep", OUTPUT),
        ("nested", OUTPUT),
        ("many-values", OUTPUT),
        ("requests", PROTOCOL),
        ("misshapen", PROTOCOL),
        ("bad-utf8", PROTOCOL),
        ("exits", CRASHED),
    ],
)
async def test_misbehaviour_ends_that_turn_typed_and_nobody_elses(
    open_runner: OpenRunner, monkeypatch: pytest.MonkeyPatch, mode: str, reason: int
) -> None:
    # A program that asks and never reads the answers is ended after this.
    monkeypatch.setattr("runner.agent.stdio._WRITE_SECONDS", 2.0)
    async with open_runner() as house:
        session, other = new_id(), new_id()
        await house.run(other, "good")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        bad = asyncio.create_task(house.run(session, mode))
        beating = asyncio.create_task(longest_hold_of_the_loop(bad))
        while not bad.done():
            good = await house.run(other, "good")
            assert good.finished.outcome == turn_pb2.TURN_STATE_SUCCEEDED
        result = await bad
        assert result.finished.error.reason == reason, result.finished
        # Nobody holds up the loop that everybody's turns share: by the processor's clock, as others' load is
        # not the turn's doing.
        assert await beating < 3.0
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        assert grown < 400, f"the runner grew by {grown:.0f} MiB"
        after = await house.run(session, "good")
        assert after.finished.outcome == turn_pb2.TURN_STATE_SUCCEEDED, after.finished


async def longest_hold_of_the_loop(during: asyncio.Task[Any]) -> float:
    """The longest that anything computed on this loop without letting others in."""
    longest, before = 0.0, time.thread_time()
    while not during.done():
        await asyncio.sleep(0.01)
        now = time.thread_time()
        longest, before = max(longest, now - before), now
    return longest


async def test_shapes_that_nobody_knows_are_skipped_and_text_is_made_valid(open_runner: OpenRunner) -> None:
    async with open_runner() as house:
        result = await house.run(new_id(), "odd-shapes")
        assert result.finished.outcome == turn_pb2.TURN_STATE_SUCCEEDED, result.finished
        assert result.of("assistant_message")[0].text == "? lone \x00 nul \u202e"


async def test_a_report_of_a_file_elsewhere_is_no_change(open_runner: OpenRunner) -> None:
    async with open_runner() as house:
        result = await house.run(new_id(), "foreign-paths")
        assert [change.path for change in result.of("file_change")] == ["mine"]


async def test_a_transcript_goes_to_its_own_session_whatever_it_says(open_runner: OpenRunner) -> None:
    async with open_runner() as house:
        session = new_id()
        await house.run(session, "foreign-transcript")
        keys = {key[:3] for key in house.transcripts.entries}
        assert keys <= {("acme", f"sessions/{session}", session)}
        for entries in house.transcripts.entries.values():
            assert all(b"00000000-0000-4000" not in entry.json.split(b'"uuid"')[0] for entry in entries)


async def test_a_result_of_any_size_is_cut_and_its_cost_is_not_believed(open_runner: OpenRunner) -> None:
    async with open_runner() as house:
        result = await house.run(new_id(), "huge-result")
        assert len(result.finished.result.encode()) <= 1 << 20
        assert result.finished.usage.cost_usd == 0


async def test_a_result_that_does_not_name_the_prompt_is_not_its_answer(open_runner: OpenRunner) -> None:
    async with open_runner() as house:
        assert (await house.run(new_id(), "foreign-results")).finished.result == "yours"


async def test_one_that_stalls_is_cancelled_at_once(open_runner: OpenRunner) -> None:
    async with open_runner() as house:
        session = new_id()
        await house.run(session, "good")
        request = house.request(session, "stall")
        following = asyncio.create_task(house.run(session, "stall", turn=request.turn.rpartition("/")[2]))
        cancel = pb.CancelTurnRequest(turn=request.turn, epoch=1)

        async def cancelled() -> bool:
            answer = await house.stub().CancelTurn(cancel, metadata=house.metadata(), timeout=60)
            return bool(answer.found)

        await wait_until(cancelled)
        result = await following
        assert result.finished.outcome == turn_pb2.TURN_STATE_CANCELLED


async def test_one_that_never_answers_did_not_start(
    open_runner: OpenRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("runner.agent.agent._BOOT_SECONDS", 1.0)
    cli = tmp_path / "claude"
    cli.write_text("#!/bin/sh\nexec sleep 1000\n")
    async with open_runner() as house:
        result = await house.run(new_id(), "good")
        assert result.finished.error.reason == errors_pb2.ERROR_REASON_SANDBOX_START_FAILED
