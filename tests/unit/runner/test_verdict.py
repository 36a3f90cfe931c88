"""What a turn's options say about a call of a tool."""

from __future__ import annotations

from typing import Any

import pytest
from pointsman.session.v1 import turn_pb2
from runner.agent.read_only_commands import is_read_only
from runner.agent.verdict import Verdict, verdict

PLAN = turn_pb2.PERMISSION_MODE_PLAN
ACCEPT = turn_pb2.PERMISSION_MODE_ACCEPT_EDITS
BYPASS = turn_pb2.PERMISSION_MODE_BYPASS_PERMISSIONS


@pytest.mark.parametrize(
    "command",
    [
        "ls",
        "ls -la /workspace | head -n 3",
        "cat 'a b.txt' && wc -l x.py",
        "pwd; ls *.py",
        "grep -rn 'a|b' .",
    ],
)
def test_commands_that_only_read(command: str) -> None:
    assert is_read_only(command)


@pytest.mark.parametrize(
    "command",
    [
        "", " ", "touch x", "ls > x", "ls >> x", "cat <(touch x)", "ls $(touch x)", "ls `touch x`",
        "ls & touch x",
        "ls && touch x", "ls ; touch x", "ls | tee x", "ls\ntouch x", "ls \\\n; touch x", "ls || rm x",
        "PATH=. ls",
        "./ls", "find . -delete", "find . -exec touch x ;", "git log", "sort -o x y", "env touch x",
        "ls |& tee x",
        "ls ;; touch x", "&& ls", "ls 'unclosed", "{ touch x; }", "(touch x)", "ls # x\ntouch y",
        "echo hi\rtouch x", "ls " + "x" * 5000, None, 7, ["ls"],
    ],
)  # fmt: skip
def test_commands_that_may_change_something(command: object) -> None:
    assert not is_read_only(command)


def said(tool: str, given: Any = None, **options: Any) -> Verdict:
    return verdict(turn_pb2.TurnOptions(**options), tool, given if given is not None else {})


@pytest.mark.parametrize(
    ("rule", "tool", "expected"),
    [
        ("mcp__files", "mcp__files__make", Verdict.ALLOW),
        ("mcp__files__*", "mcp__files__make", Verdict.ALLOW),
        ("mcp__files__make", "mcp__files__make", Verdict.ALLOW),
        ("mcp__files__make", "mcp__files__make_more", Verdict.ASK),
        ("mcp__file", "mcp__files__make", Verdict.ASK),
        ("Task", "Agent", Verdict.ALLOW),
        ("Bash(touch:*)", "Bash", Verdict.RULES),
        ("Edit(docs/**)", "Write", Verdict.RULES),
        ("Write", "NotebookEdit", Verdict.ASK),
    ],
)
def test_a_rule_of_the_list_is_for_its_tool(rule: str, tool: str, expected: Verdict) -> None:
    assert said(tool, permission_mode=ACCEPT, allowed_tools=[rule]) is expected
    if rule != "Task":
        assert said(tool, permission_mode=PLAN, allowed_tools=[rule]) is Verdict.ASK


def test_a_tool_that_is_disallowed_or_not_offered_never_runs() -> None:
    for mode in (PLAN, ACCEPT, BYPASS):
        assert said("Write", permission_mode=mode, disallowed_tools=["Write"]) is Verdict.DENY
        assert said("mcp__a__b", permission_mode=mode, disallowed_tools=["mcp__a"]) is Verdict.DENY
        assert said("CronCreate", permission_mode=mode) is Verdict.DENY


def test_a_plan_is_written_outside_of_the_workspace_unasked() -> None:
    plans = "/home/agent/.claude/plans"
    assert said("Write", {"file_path": f"{plans}/x.md"}, permission_mode=PLAN) is Verdict.RULES
    for path in (f"{plans}/../../../../workspace/x", "/workspace/.claude/plans/x.md", "plans/x.md", 7, None):
        assert said("Write", {"file_path": path}, permission_mode=PLAN) is Verdict.ASK


def test_a_sub_agent_with_a_worktree_of_its_own_is_asked_for() -> None:
    for tool in ("Agent", "Task"):
        for isolation in ("worktree", "remote", "", 7):
            assert said(tool, {"isolation": isolation}, permission_mode=PLAN) is Verdict.ASK
        assert said(tool, {"isolation": "worktree"}, permission_mode=ACCEPT) is Verdict.ALLOW
        assert said(tool, {"prompt": "Look"}, permission_mode=PLAN) is Verdict.RULES
