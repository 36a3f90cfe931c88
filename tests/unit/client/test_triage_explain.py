"""`pointsman triage explain`: where a prompt would go, without any service."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pointsman_client.cli.main import app
from typer.testing import CliRunner


def explain(*arguments: str) -> tuple[int, str]:
    answer = CliRunner().invoke(app, [*arguments], env={"POINTSMAN_ROUTER_CONFIG": ""})
    return answer.exit_code, answer.output


@pytest.mark.parametrize(
    ("prompt", "more", "outcome", "by"),
    [
        ("What is 2+2?", [], "direct", "rule:question"),
        ("Create hello.py that prints hello world", [], "agent", "rule:work"),
        ("What is 2+2?", ["--session"], "agent", "rule:goes-on"),
        ("What is 2+2?", ["--tool", "Bash"], "agent", "rule:tools"),
        ("Hello there", [], "agent", "default"),
    ],
)
def test_the_packaged_rules_are_explained(prompt: str, more: list[str], outcome: str, by: str) -> None:
    code, out = explain("triage", "explain", prompt, *more)
    assert code == 0, out
    assert out.startswith(f"{outcome}, by {by}.")
    code, line = explain("--json", "triage", "explain", prompt, *more)
    found = json.loads(line)
    assert (code, found["outcome"], found["decided_by"]) == (0, outcome, by)


def test_an_operators_own_rules_are_explained_before_they_are_installed(tmp_path: Path) -> None:
    file = tmp_path / "router.yaml"
    refuse = {"name": "payroll", "when": {"pattern": "payroll", "accounts": ["t*"]}, "outcome": "refuse"}
    rows = {"name": "rows", "when": {"context": ["orders"]}, "outcome": "direct"}
    model = {"model": "groq/small"}
    file.write_text(json.dumps({"triage": {"rules": [refuse, rows], "model": model}}))
    config = ["triage", "explain", "--config", str(file)]
    assert explain(*config, "my payroll", "--account", "team")[1].startswith("refuse, by rule:payroll.")
    assert explain(*config, "my orders", "--context", "orders")[1].startswith("direct, by rule:rows.")
    assert explain(*config, "my payroll")[1].startswith("groq/small would be asked; without it: agent")


def test_a_mistake_in_the_file_is_told_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "router.yaml"
    file.write_text("triage: {rules: [{name: x, outcome: maybe}]}")
    code, out = explain("triage", "explain", "--config", str(file), "hi")
    assert (code, "triage.rules.0.outcome" in out, "Traceback" in out) == (2, True, False)
