"""What an agent resumes from, laid out as it wants it, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from runner.agent.seed import Transcript, is_sub_agent, write_seed

LINES = [b'{"type":"user"}', b'{"type":"assistant"}']
ABOUT = [b'{"type":"agent_metadata","name":"old"}', b'{"type":"agent_metadata","name":"new"}']


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_sub_agents_lie_below_their_conversation_with_what_is_known_about_them(tmp_path: Path) -> None:
    sub_agents = {"subagents/agent-1": [ABOUT[0], *LINES, ABOUT[1]]}
    write_seed(tmp_path / "seed", "me", Transcript(LINES, sub_agents))
    text = "".join(line.decode() + "\n" for line in LINES)
    assert files(tmp_path) == {
        "seed/projects/-workspace/me.jsonl": text,
        "seed/projects/-workspace/me/subagents/agent-1.jsonl": text,
        "seed/projects/-workspace/me/subagents/agent-1.meta.json": json.dumps({"name": "new"}),
    }


@pytest.mark.parametrize(
    "subpath",
    [
        "../../../etc/cron.d/x",
        "subagents/../../../x",
        "subagents/..",
        "/etc/x",
        "subagents//x",
        "subagents/a\0b",
        "subagents/a\n",
        "subagents/" + "a" * 300,
        "subagents/a/b/c/d/e",
        "other/a",
        "",
    ],
)
def test_a_path_that_is_no_sub_agents_is_not_written(tmp_path: Path, subpath: str) -> None:
    assert not is_sub_agent(subpath)
    write_seed(tmp_path / "seed", "me", Transcript(LINES, {subpath: LINES}))
    assert list(files(tmp_path)) == ["seed/projects/-workspace/me.jsonl"]


def test_a_new_conversation_has_nothing(tmp_path: Path) -> None:
    write_seed(tmp_path / "seed", "me", Transcript())
    assert not (tmp_path / "seed").exists()
