"""Anthropic's tools that the caller's own program runs, as function tools for other providers.

Anthropic knows the schemas of these types by itself, so a request does not carry them. Other providers
need them spelled out. Source: Anthropic's tool reference for `bash_*` and `text_editor_*`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from llm_proxy.messages.invalid import invalid

_TEXT: Final = {"type": "string"}
_COMMANDS: Final = ("view", "create", "str_replace", "insert")
_SCHEMAS: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    "bash": (
        "Run a command in a persistent bash shell. Give `command`, or `restart` to start a new shell.",
        {
            "type": "object",
            "properties": {"command": _TEXT, "restart": {"type": "boolean"}},
        },
    ),
    "text_editor": (
        "View, create and edit text files. `view` shows a file or a folder, `create` writes a file, "
        "`str_replace` replaces text that occurs exactly once, `insert` adds text after a line.",
        {
            "type": "object",
            "properties": {
                "command": {"type": "string", "enum": list(_COMMANDS)},
                "path": _TEXT,
                "view_range": {"type": "array", "items": {"type": "integer"}},
                "file_text": _TEXT,
                "old_str": _TEXT,
                "new_str": _TEXT,
                "insert_line": {"type": "integer"},
                "insert_text": _TEXT,
            },
            "required": ["command", "path"],
        },
    ),
}


def as_function(tool: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Return a tool as a function tool; a function tool is returned as it is.

    Raises Failure INVALID_FIELD, naming `place`, for a type that only Anthropic's models know.
    """
    kind = str(tool.get("type") or "custom")
    if kind == "custom":
        return dict(tool)
    family = kind.rpartition("_")[0]
    if family not in _SCHEMAS:
        raise invalid(f"{place}.type", f"{kind} works with Anthropic's models only; choose one of those")
    description, schema = _SCHEMAS[family]
    kept = {name: value for name, value in tool.items() if name in ("name", "cache_control")}
    return {"description": description, "input_schema": schema, **kept}
