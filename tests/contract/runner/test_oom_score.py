"""When the machine's memory is full, the kernel takes a sandbox's process, and no service's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.sandboxes.memory import OOM_SCORE
from support.runner_house import new_id
from support.runner_orphans import processes_on
from support.scripted_anthropic import Reply

TRY_TO_LOWER = """
(setsid sh -c 'sleep 300 & sleep 301' &) >/dev/null 2>&1 </dev/null
for score in -1000 0 999; do
    for pid in $$ 1 $PPID; do
        echo $score > /proc/$pid/oom_score_adj
        echo $score > /proc/$pid/oom_adj
    done
done 2>/dev/null
cat /proc/$$/oom_score_adj
"""


async def test_every_process_of_a_sandbox_is_taken_first_and_none_can_change_that(
    open_runner: Callable[..., Any], tmp_path: Path
) -> None:
    script = [
        Reply.tool("Bash", {"command": TRY_TO_LOWER, "description": "Lower it"}),
        Reply.text("Tried."),
    ]
    async with open_runner(script) as house:
        result = await house.run(new_id(), "Lower it")
        assert [each.content.strip() for each in result.of("tool_result")] == [str(OOM_SCORE)]
        # The agent and what its command has left behind, as the kernel of the host sees them.
        scores = [own_score(pid) for pid in processes_on(tmp_path / "data")]
        assert len(scores) >= 4
        assert set(scores) == {OOM_SCORE}
        assert own_score("self") < OOM_SCORE


def own_score(pid: str) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())
