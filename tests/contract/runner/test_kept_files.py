"""What the agent was told is saved in a file stays readable: for it, in a new process, and for the user."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pointsman.runner.v1 import runner_service_pb2 as pb
from pointsman.session.v1 import turn_pb2
from support.runner_house import RunnerHouse, TurnResult, new_id
from support.scripted_anthropic import Reply

OpenRunner = Callable[..., Any]
LONG = "seq 1 20000"


def follow_orders(body: Mapping[str, Any]) -> Reply:
    """Run the command that the newest prompt holds; then say that it is done."""
    last = [one for one in body["messages"] if one["role"] == "user"][-1]["content"]
    texts = [last] if isinstance(last, str) else [str(block.get("text", "")) for block in last]
    found = re.search(r"RUN: (.*)", "\n".join(texts))
    if found is None:
        return Reply.text("Done.")
    return Reply.tool("Bash", {"command": found[1], "description": "run"})


async def run(house: RunnerHouse, session: str, command: str, **options: Any) -> str:
    result: TurnResult = await house.run(session, f"RUN: {command}", options=turn_pb2.TurnOptions(**options))
    [done] = result.of("tool_result")
    return str(done.content)


async def test_a_long_output_survives_the_process_that_wrote_it(open_runner: OpenRunner) -> None:
    async with open_runner(follow_orders) as house:
        session = new_id()
        said = await run(house, session, LONG)
        found = re.search(r"saved to: (\S+)", said)
        assert found is not None, said[:500]
        assert (await run(house, session, f"tail -n 1 {found[1]}")).strip() == "20000"
        # Another option takes another process; the second has a long output of its own.
        again = await run(house, session, f"tail -n 1 {found[1]}; seq 1 20001", max_turns=11)
        second = re.search(r"saved to: (\S+)", again)
        assert second is not None and "20000" in again
        command = f"tail -n 1 {found[1]} {second[1]}"
        last = await run(house, session, command, max_turns=12)
        assert "20000" in last and "20001" in last

        [first] = [name for name in await kept(house, session) if name.endswith(found[1].split("/")[-1])]
        assert (await house.read(session, first)).startswith(b"1\n2\n3\n")


async def kept(house: RunnerHouse, session: str) -> list[str]:
    """Return the paths below the workspace of what the CLI keeps."""
    return [entry.path for entry in await house.list(session, ".agent", recursive=True)]


async def test_a_workspace_cannot_lead_kept_files_out_of_it(open_runner: OpenRunner) -> None:
    async with open_runner(follow_orders) as house:
        session = new_id()
        await run(house, session, "rm -r .agent; ln -s /etc .agent; echo ok")
        hibernate = pb.HibernateSandboxRequest(session=f"sessions/{session}")
        await house.stub().HibernateSandbox(hibernate, metadata=house.metadata(), timeout=60)
        said = await run(house, session, LONG)
        assert "saved to:" in said
