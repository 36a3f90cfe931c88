"""What is kept of an agent has a bound, whatever the agent does."""

from __future__ import annotations

from pointsman.session.v1 import event_pb2
from session.sessions.state import AgentState


def test_an_agent_that_begins_tools_without_end_makes_no_endless_state() -> None:
    state = AgentState()
    for number in range(1000):
        use = event_pb2.ToolUse(id=f"{number}", tool="T" * 10_000)
        state.apply(event_pb2.Event(tool_use=use), number)
        change = event_pb2.FileChange(path=f"{number}/" + "p" * 4000)
        state.apply(event_pb2.Event(file_change=change), number)
    state.apply(event_pb2.Event(tool_use=event_pb2.ToolUse(id="i" * 100_000, tool="T")), 0)
    assert len(state.dump()) < 64 * 1024


def test_a_tool_that_answered_makes_room() -> None:
    state = AgentState()
    for number in range(1000):
        state.apply(event_pb2.Event(tool_use=event_pb2.ToolUse(id=f"{number}", tool="Bash")), 0)
        assert state.tools == {f"{number}": "Bash"}
        state.apply(event_pb2.Event(tool_result=event_pb2.ToolResult(tool_use_id=f"{number}")), 0)
