"""Steps of a plan: what each one does with which tool, and what is said about it afterwards."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from llm_proxy.demo_model.conversation import ToolUse
from llm_proxy.demo_model.tags import without

# Claude Code's `Read` numbers the lines.
_NUMBERED: Final = re.compile(r"^[ ]{0,8}\d{1,9}[→\t]", re.MULTILINE)

_RUNNERS: Final = {".py": "python3", ".sh": "sh", ".js": "node", ".rb": "ruby", ".pl": "perl"}


@dataclass(frozen=True)
class Step:
    """One tool call. `said` says that it was done, `shows` whether its result is part of the answer."""

    tool: str
    input: Mapping[str, Any]
    said: str
    shows: bool = False

    @property
    def path(self) -> str:
        """The file that it is about; empty when it is about none."""
        return str(self.input.get("file_path", ""))

    def matches(self, use: ToolUse) -> bool:
        """Whether a call that was made is this step.

        All calls of an exchange are the plan's own, in its order, so the tool's name is enough. The input
        may differ: whoever approves a call may change it.
        """
        return use.name == self.tool


def create(path: str, content: str, name: str) -> Step:
    """Write a file, whether or not it exists."""
    return Step("Write", {"file_path": path, "content": content}, f"created {name}")


def read(path: str, name: str, *, shows: bool = True) -> Step:
    """Read a file."""
    return Step("Read", {"file_path": path}, f"read {name}", shows)


def edit(path: str, old: str, new: str, name: str) -> Step:
    """Replace a text in a file that was read before."""
    return Step("Edit", {"file_path": path, "old_string": old, "new_string": new}, f"edited {name}")


def run(command: str, said: str = "") -> Step:
    """Run a command and show what it prints."""
    return Step(
        "Bash", {"command": command, "description": "Run a command"}, said or f"ran `{command}`", shows=True
    )


def append(name: str, text: str) -> Step:
    """Add a line to the end of a file."""
    command = f"printf '%s\\n' {shlex.quote(text)} >> {shlex.quote(name)}"
    return Step("Bash", {"command": command, "description": "Append a line"}, f"appended a line to {name}")


def delete(name: str) -> Step:
    """Delete a file."""
    return Step(
        "Bash", {"command": f"rm -- {shlex.quote(name)}", "description": "Delete a file"}, f"deleted {name}"
    )


def run_file(name: str) -> Step:
    """Run a program by its kind."""
    suffix = name[name.rfind(".") :] if "." in name else ""
    runner = _RUNNERS.get(suffix)
    quoted = shlex.quote(name)
    return run(f"{runner} {quoted}" if runner else f"./{quoted}", f"ran {name}")


def shown(use: ToolUse) -> str:
    """Return a result as it is quoted."""
    text = without(use.result or "", "system-reminder")
    if use.name == "Read":
        text = _NUMBERED.sub("", text)
    return text.strip("\n")
