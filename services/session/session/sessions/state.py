"""What `GetSession` shows of an agent: folded from its events, kept beside them in the same transaction."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.struct_pb2 import Struct
from pointsman.session.v1 import event_pb2, turn_pb2

_MAX_FILES: Final = 100
# More at once, and longer names, come from an agent that means harm: all of it is written with every event.
_MAX_TOOLS: Final = 64
_MAX_NAME: Final = 256
_MAX_PATH: Final = 1024
_COMMAND_TOOL: Final = "Bash"
# A command line that is longer is no line for people.
_MAX_COMMAND: Final = 4096


@dataclass
class AgentState:
    """The newest command, files, tools and sandbox of a session."""

    last_command: str = ""
    files: list[str] = field(default_factory=list)
    """Newest first, each once."""
    tools: dict[str, str] = field(default_factory=dict)
    """Tools that run now, by the id of their call."""
    sandbox: int = event_pb2.SANDBOX_STATE_UNSPECIFIED
    heartbeat: int = 0

    def apply(self, event: event_pb2.Event, now: int) -> None:
        """Take in one event, seen at `now`."""
        kind = event.WhichOneof("kind")
        self.heartbeat = now
        if kind == "tool_use":
            self._began(event.tool_use)
            if event.tool_use.tool == _COMMAND_TOOL:
                self.last_command = _command(event.tool_use.input)
        elif kind == "tool_result":
            self.tools.pop(event.tool_result.tool_use_id, None)
        elif kind == "file_change":
            self._touch(event.file_change.path)
        elif kind == "sandbox_changed":
            self.sandbox = event.sandbox_changed.state
        elif kind == "turn_finished":
            self.tools.clear()

    def _began(self, use: event_pb2.ToolUse) -> None:
        if len(self.tools) < _MAX_TOOLS and len(use.id) <= _MAX_NAME:
            self.tools[use.id] = use.tool[:_MAX_NAME]

    def _touch(self, path: str) -> None:
        if len(path) > _MAX_PATH:
            return
        if path in self.files:
            self.files.remove(path)
        self.files.insert(0, path)
        del self.files[_MAX_FILES:]

    def dump(self) -> bytes:
        """Return the state as it is stored."""
        return json.dumps(self.__dict__, separators=(",", ":")).encode()

    @classmethod
    def load(cls, stored: bytes) -> AgentState:
        """Read what `dump` wrote; nothing stored is a fresh state."""
        return cls(**json.loads(stored)) if stored else cls()


def _command(arguments: Struct) -> str:
    command = arguments.fields["command"].string_value if "command" in arguments.fields else ""
    return command[:_MAX_COMMAND]


def add_usage(total: turn_pb2.Usage, more: turn_pb2.Usage) -> None:
    """Add `more` to `total`."""
    for name in turn_pb2.Usage.DESCRIPTOR.fields_by_name:
        setattr(total, name, getattr(total, name) + getattr(more, name))
