"""What an agent finds when it looks around: nothing, and no way out."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.runner_house import new_id
from support.scripted_anthropic import Reply

PROBE = Path(__file__).with_name("probe.py").read_text()


def written(content: str) -> Reply:
    return Reply.tool("Write", {"file_path": "/workspace/probe.py", "content": content})


async def probed(house: Any, hidden: list[str]) -> dict[str, Any]:
    session = new_id()
    house.model.script = [
        written(PROBE),
        Reply.tool("Bash", {"command": f"python3 probe.py {' '.join(hidden)}", "description": "Look"}),
        Reply.text("Looked."),
    ]
    result = await house.run(session, "Look around")
    said = result.of("tool_result")[-1]
    assert not said.is_error, said.content
    return dict(json.loads(await house.read(session, "probe.json")))


async def test_a_sandbox_has_no_network_no_host_no_power_and_no_key(
    open_runner: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    canary = "sk-canary-5f1d0c"
    monkeypatch.setenv("ANTHROPIC_API_KEY", canary)
    monkeypatch.setenv("GROQ_API_KEY", canary)
    secret = tmp_path / "host-secret"
    secret.write_text(canary)
    # An image has a home of root's, too; what must not show is this machine's.
    at_home = Path.home() / f".pointsman-probe-{new_id()}"
    at_home.touch()
    request.addfinalizer(at_home.unlink)
    async with open_runner() as house:
        found = await probed(house, [str(secret), str(tmp_path), str(at_home), str(Path(__file__).parent)])
        assert found["uid"] >= 1000
        assert found["capabilities"] == 0
        assert found["no_new_privileges"] == 1
        assert found["interfaces"] == ["lo"]
        assert "127.0.0.1" in found["localhost"]
        assert found["reached"] == []
        assert found["seen"] == []
        assert found["written"] == []
        assert found["processes_of_others"] == []
        # The model's script must not find it by asking for it: the needle is put together inside.
        assert found["canary_hits"] == []
        for token in house.tokens.tokens:
            assert token not in json.dumps(found)
        assert found["forbidden_that_worked"] == []


async def test_the_socket_leads_to_the_messages_api_and_nowhere_else(open_runner: Callable[..., Any]) -> None:
    async with open_runner() as house:
        found = await probed(house, [])
        assert found["held"] <= 64
        assert found["relay"] == {
            "GET /v1/models": 200,
            "GET /metrics": 404,
            "POST /v1/complete": 404,
            "GET /v1/messages": 404,
            "GET /v1/messages/../../etc/passwd": 404,
        }


async def test_no_file_gets_a_setuid_or_setgid_bit_and_other_modes_are_kept(
    open_runner: Callable[..., Any], tmp_path: Path
) -> None:
    session = new_id()
    probe = Path(__file__).with_name("set_id_probe.py").read_text()
    async with open_runner() as house:
        house.model.script = [
            Reply.tool("Write", {"file_path": "/workspace/probe.py", "content": probe}),
            Reply.tool("Bash", {"command": "python3 probe.py", "description": "Look"}),
            Reply.text("Looked."),
        ]
        await house.run(session, "Look around")
        assert json.loads(await house.read(session, "set_id.json")) == {}
        workspace = next((tmp_path / "data/runner/workspaces").glob(f"*/{session}"))
        assert [path for path in workspace.rglob("*") if path.lstat().st_mode & 0o6000] == []
        assert stat.S_IMODE((workspace / "plain").stat().st_mode) == 0o751
        assert stat.S_IMODE((workspace / "sticky").stat().st_mode) == 0o1644
