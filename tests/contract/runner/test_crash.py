"""The runner is killed, or its disk is lost: nothing stays behind, and sessions go on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pointsman.errors.v1 import errors_pb2
from pointsman.runner.v1 import runner_service_pb2 as pb
from pointsman.runner.v1 import runner_service_pb2_grpc as rpc
from pointsman.session.v1 import turn_pb2
from servicekit.channels import service_channel
from servicekit.errors import Failure
from servicekit.testing import Keys, free_port, passport_metadata, serve, wait_until
from support.files import below
from support.runner_house import MODEL, new_id, runner_house
from support.runner_orphans import alive_on, frozen_on, groups_of, left_on_disk, watchers_of
from support.runner_peers import TokenPeer, TranscriptPeer
from support.scripted_anthropic import Reply, ScriptedAnthropic, scripted_anthropic

# Promised of every kill. A burst of another program makes a try worse: the best of two counts.
GONE_SECONDS = 10.0
# `python -m runner`, but that a drain gives turns two seconds instead of eight.
RUNNER = (
    "import runpy, runner.app; runner.app._GRACE_SECONDS = 2.5; "
    "runpy.run_module('runner', run_name='__main__')"
)


class Machine:
    """A runner in a process of its own, that can be killed and started again."""

    def __init__(self, environment: dict[str, str], port: int, keys: Keys) -> None:
        self._environment = environment
        self._port = port
        self._keys = keys
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", RUNNER, env={**os.environ, **self._environment}
        )
        async with service_channel(f"127.0.0.1:{self._port}", signer=None) as channel:
            health = health_pb2_grpc.HealthStub(channel)

            async def serving() -> bool:
                try:
                    answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=5)
                except grpc.aio.AioRpcError:
                    return False
                return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

            await wait_until(serving, timeout=60)

    async def kill(self, number: int = signal.SIGKILL) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)
            await self.process.wait()

    async def run(self, session: str, prompt: str, **fields: Any) -> list[pb.RunTurnResponse]:
        metadata = passport_metadata(self._keys.signer("session"), scopes={"internal"})
        turn = fields.pop("turn", new_id())
        request = pb.RunTurnRequest(
            turn=f"sessions/{session}/turns/{turn}",
            account="a",
            epoch=1,
            model=MODEL,
            prompt=prompt,
            **fields,
        )
        async with service_channel(f"127.0.0.1:{self._port}", signer=None) as channel:
            call = rpc.RunnerServiceStub(channel).RunTurn(request, metadata=metadata, timeout=60)
            return [item async for item in call]

    async def delete(self, session: str) -> None:
        metadata = passport_metadata(self._keys.signer("session"), scopes={"internal"})
        request = pb.DeleteSandboxRequest(session=f"sessions/{session}")
        async with service_channel(f"127.0.0.1:{self._port}", signer=None) as channel:
            await rpc.RunnerServiceStub(channel).DeleteSandbox(request, metadata=metadata, timeout=60)


@asynccontextmanager
async def machine(
    keys: Keys, data_dir: Path, engine: dict[str, str], **variables: str
) -> AsyncIterator[tuple[Machine, ScriptedAnthropic]]:
    tokens, transcripts, port = TokenPeer(), TranscriptPeer(), free_port()
    async with (
        scripted_anthropic([Reply.text("Hi.")]) as model,
        serve(tokens.servicer(), keys=keys, service="llm-proxy") as llm_proxy,
        serve(transcripts.servicer(), keys=keys, service="session") as session,
    ):
        environment = {
            "POINTSMAN_RUNNER_ADDRESS": f"127.0.0.1:{port}",
            "POINTSMAN_PASSPORT_KEYS": str(keys.jwks),
            "POINTSMAN_PASSPORT_KEY": str(keys.directory),
            "POINTSMAN_DATA_DIR": str(data_dir),
            "POINTSMAN_LLM_PROXY_ADDRESS": llm_proxy.server.address,
            "POINTSMAN_LLM_PROXY_HTTP_ADDRESS": model.url.removeprefix("http://"),
            "POINTSMAN_SESSION_ADDRESS": session.server.address,
            "SANDBOX": engine["sandbox"],
            "POINTSMAN_SANDBOX_IMAGE": engine.get("sandbox_image", ""),
            **variables,
        }
        runner = Machine(environment, port, keys)
        await runner.start()
        try:
            yield runner, model
        finally:
            await runner.kill(signal.SIGTERM)


async def test_after_a_kill_in_mid_turn_no_orphan_is_left_and_the_next_turn_works(
    engine: dict[str, str], keys: Keys, tmp_path: Path
) -> None:
    data_dir = tmp_path / "data"
    async with machine(keys, data_dir, engine) as (runner, model):
        session, cut = new_id(), new_id()
        await runner.run(session, "Remember 42.")
        model.script = [Reply.tool("Bash", {"command": "sleep 300 & sleep 301", "description": "Wait"})]
        running = asyncio.create_task(runner.run(session, "Wait", turn=cut))
        await wait_until(lambda: len(model.prompts) == 2, timeout=60)
        await runner.kill()
        with pytest.raises(grpc.aio.AioRpcError):
            await running
        await wait_until(lambda: alive_on(data_dir) == [])
        await runner.start()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await runner.run(session, "", turn=cut, attach_only=True)
        failure = Failure.from_rpc_error(caught.value, "runner")
        assert failure.reason == errors_pb2.ERROR_REASON_TURN_NOT_FOUND
        model.script = [Reply.text("42.")]
        items = await runner.run(session, "Which number?")
        assert items[-1].event.turn_finished.result == "42.", items[-1]
        assert "Remember 42." in str(model.prompts[-1]["messages"])
        assert list((data_dir / "runner" / "sandboxes").iterdir()) != []
    assert alive_on(data_dir) == []
    assert left_on_disk(data_dir) == []


async def test_a_kill_while_sandboxes_boot_leaves_nothing_on_the_machine(
    engine: dict[str, str], keys: Keys, tmp_path: Path
) -> None:
    data_dir = tmp_path / "data"
    sandboxes = data_dir / "runner" / "sandboxes"
    async with machine(keys, data_dir, engine) as (runner, _model):
        stages = (lambda: any(sandboxes.glob("*")), lambda: bool(alive_on(data_dir)))
        took = []
        for stage in stages:
            turns = [asyncio.create_task(runner.run(new_id(), "Hello")) for _ in range(3)]
            await wait_until(stage, timeout=60)
            await runner.kill()
            await asyncio.gather(*turns, return_exceptions=True)
            # At once, as a supervisor would. The new one's pool begins to boot.
            alive, left = set(alive_on(data_dir)), set(left_on_disk(data_dir))
            await runner.start()
            assert not left & set(left_on_disk(data_dir))

            def gone(alive: set[str] = alive) -> bool:
                return not alive & set(alive_on(data_dir))

            began = time.monotonic()
            await wait_until(gone)
            took.append(time.monotonic() - began)
        assert min(took) < GONE_SECONDS
        items = await runner.run(new_id(), "Hello")
        assert items[-1].event.turn_finished.result == "Hi.", items[-1]
    assert alive_on(data_dir) == []
    assert left_on_disk(data_dir) == []
    assert groups_of(data_dir) == []
    await wait_until(lambda: watchers_of(data_dir) == [], timeout=60)


async def test_what_is_frozen_dies_with_a_runner_that_nobody_starts_again(
    engine: dict[str, str], keys: Keys, tmp_path: Path
) -> None:
    data_dir = tmp_path / "data"
    async with machine(keys, data_dir, engine, POINTSMAN_PAUSE_AFTER="0s") as (runner, _model):
        took = []
        for _ in range(2):
            for _ in range(2):
                await runner.run(new_id(), "Hello")
            await wait_until(lambda: frozen_on(data_dir) != [], timeout=60)
            await runner.kill()
            began = time.monotonic()
            await wait_until(lambda: alive_on(data_dir) == [], timeout=60)
            took.append(time.monotonic() - began)
            await runner.start()
        assert min(took) < GONE_SECONDS
    assert groups_of(data_dir) == []


async def test_a_session_that_is_deleted_after_a_kill_leaves_nothing(
    engine: dict[str, str], keys: Keys, tmp_path: Path
) -> None:
    data_dir = tmp_path / "data"
    async with machine(keys, data_dir, engine) as (runner, _model):
        session = new_id()
        await runner.run(session, "Hello")
        assert [path for path in below(data_dir) if session in path.name] != []
        await runner.kill()
        await runner.start()
        for _ in range(2):
            await runner.delete(session)
        assert [path for path in below(data_dir) if session in path.name] == []


async def _stopped_in(runner: Machine, model: ScriptedAnthropic, *, calls: int) -> tuple[Any, Any]:
    """Send SIGTERM once the model has been asked so often; return the turn's stream and the stop, running."""
    turn = new_id()
    stream = asyncio.create_task(runner.run(new_id(), "Wait", turn=turn))
    await wait_until(lambda: len(model.prompts) == calls, timeout=60)
    return stream, asyncio.create_task(runner.kill(signal.SIGTERM))


async def test_sigterm_lets_turns_end_that_do_so_in_time(
    engine: dict[str, str], keys: Keys, tmp_path: Path
) -> None:
    data_dir = tmp_path / "data"
    async with machine(keys, data_dir, engine) as (runner, model):
        model.script = [Reply.text("Done at last.", delay=0.5)]
        stream, stopping = await _stopped_in(runner, model, calls=1)
        items = await stream
        assert items[-1].event.turn_finished.result == "Done at last."
        await stopping
    assert alive_on(data_dir) == []


async def test_sigterm_leaves_a_turn_that_has_done_nothing_to_be_started_again(
    engine: dict[str, str], keys: Keys, tmp_path: Path
) -> None:
    """As after a kill: its follower is told so, and so is who asks the runner that comes next."""
    data_dir = tmp_path / "data"
    async with machine(keys, data_dir, engine) as (runner, model):
        model.script = [Reply.text("Half of it and no more.", middle=asyncio.Event())]
        session, turn = new_id(), new_id()
        stream = asyncio.create_task(runner.run(session, "Wait", turn=turn))
        await wait_until(lambda: len(model.prompts) == 1, timeout=60)
        stopping = asyncio.create_task(runner.kill(signal.SIGTERM))
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await stream
        await stopping
        await runner.start()
        with pytest.raises(grpc.aio.AioRpcError) as told_later:
            await runner.run(session, "", turn=turn, attach_only=True)
        for caught in (told, told_later):
            failure = Failure.from_rpc_error(caught.value, "runner")
            assert failure.reason == errors_pb2.ERROR_REASON_TURN_NOT_FOUND
            assert failure.metadata["acted"] == "false"
    assert alive_on(data_dir) == []


async def test_sigterm_ends_turns_that_ran_a_tool_as_interrupted(
    engine: dict[str, str], keys: Keys, tmp_path: Path
) -> None:
    data_dir = tmp_path / "data"
    async with machine(keys, data_dir, engine) as (runner, model):
        write = Reply.tool("Bash", {"command": "echo x > file", "description": "Write"})
        model.script = [write, Reply.text("Hm", stall=True)]
        stream, stopping = await _stopped_in(runner, model, calls=2)
        finished = (await stream)[-1].event.turn_finished
        assert finished.outcome == turn_pb2.TURN_STATE_INTERRUPTED
        assert finished.tool_ran
        assert "send the prompt again" in finished.error.message
        await stopping
    assert alive_on(data_dir) == []


async def test_a_stopping_runner_refuses_new_turns_and_a_second_sigterm_changes_nothing(
    engine: dict[str, str], keys: Keys, tmp_path: Path
) -> None:
    async with machine(keys, tmp_path / "data", engine) as (runner, model):
        model.script = [Reply.text("Done at last.", delay=0.5)]
        stream, stopping = await _stopped_in(runner, model, calls=1)
        assert runner.process is not None
        runner.process.send_signal(signal.SIGTERM)
        refused = await _refusal(runner)
        assert refused.reason == errors_pb2.ERROR_REASON_SERVICE_DRAINING
        assert (await stream)[-1].event.turn_finished.result == "Done at last."
        await stopping
        assert runner.process.returncode == 0


async def _refusal(runner: Machine) -> Failure:
    """Return what a new turn is refused with; it may run while the signal is on its way."""
    while True:
        try:
            await runner.run(new_id(), "Another")
        except grpc.aio.AioRpcError as error:
            return Failure.from_rpc_error(error, "runner")


async def test_a_session_goes_on_from_transcript_and_snapshot_on_an_empty_disk(
    engine: dict[str, str], keys: Keys, tmp_path: Path
) -> None:
    snapshots = tmp_path / "shared"
    session, kept = new_id(), new_id()
    write = Reply.tool("Bash", {"command": "echo precious > file", "description": "Write"})
    script = [write, Reply.text("Written.")]
    async with runner_house(keys, tmp_path / "one", script, snapshot_dir=snapshots, **engine) as house:
        await house.run(session, "Write precious into file")
        request = pb.CreateSnapshotRequest(session=f"sessions/{session}", snapshot_id=kept)
        await house.stub().CreateSnapshot(request, metadata=house.metadata(), timeout=60)
        entries = house.transcripts.entries
    look = Reply.tool("Bash", {"command": "cat file", "description": "Look"})
    script = [look, Reply.text("It is there.")]
    async with runner_house(keys, tmp_path / "two", script, snapshot_dir=snapshots, **engine) as house:
        house.transcripts.entries = entries
        restore = pb.RestoreSnapshotRequest(session=f"sessions/{session}", snapshot_id=kept)
        await house.stub().RestoreSnapshot(restore, metadata=house.metadata(), timeout=60)
        result = await house.run(session, "What is in it?")
        assert result.finished.result == "It is there.", result.finished
        assert result.of("tool_result")[0].content.strip() == "precious"
        assert "Write precious into file" in str(house.model.prompts[0]["messages"])
