"""From what the edit tools report to `file_change`, with a unified diff."""

from __future__ import annotations

import posixpath
from typing import Any, Final

from pointsman.session.v1 import event_pb2

from runner.bounded import bounded_text, clean
from runner.sandboxes.protocol import WORKSPACE

DIFF_BYTES: Final = 64 * 1024
EDIT_TOOLS: Final = "Write|Edit|MultiEdit|NotebookEdit"
"""The hook's matcher."""
_DEV_NULL: Final = "/dev/null"


def file_change(report: Any, tool_use_id: str) -> event_pb2.FileChange | None:
    """Return what an edit tool changed; None when it says nothing of a file in the workspace.

    `report` is the hook's `tool_response`. It comes out of the sandbox, so any of it may be anything.
    """
    if not isinstance(report, dict):
        return None
    path = workspace_path(clean(report.get("filePath")))
    if path is None:
        return None
    created = report.get("type") == "create"
    if created:
        diff = added_diff(path, clean(report.get("content")))
    else:
        diff = _patch_diff(path, report.get("structuredPatch"))
    text, cut = bounded_text(diff, DIFF_BYTES)
    return event_pb2.FileChange(
        path=path,
        type=event_pb2.FILE_CHANGE_TYPE_CREATED if created else event_pb2.FILE_CHANGE_TYPE_MODIFIED,
        diff=text,
        tool_use_id=tool_use_id,
        truncated=cut,
    )


def workspace_path(path: str) -> str | None:
    """Return the path below the workspace, None when it is not in there."""
    relative = posixpath.relpath(posixpath.normpath(path), WORKSPACE) if path.startswith("/") else ".."
    if relative in (".", "..") or relative.startswith("../") or "\0" in relative:
        return None
    return relative


def added_diff(path: str, content: str) -> str:
    """Return the diff of a file that is new."""
    # Cut before it is taken apart: what is over the limit is not shown anyway.
    lines = bounded_text(content, DIFF_BYTES)[0].splitlines()
    hunk = [f"@@ -0,0 +1,{len(lines)} @@", *(f"+{line}" for line in lines)] if lines else []
    return "\n".join([f"--- {_DEV_NULL}", f"+++ b/{path}", *hunk, ""])


def _patch_diff(path: str, hunks: Any) -> str:
    lines = [f"--- a/{path}", f"+++ b/{path}"]
    size = 0
    for hunk in hunks if isinstance(hunks, list) else []:
        if not isinstance(hunk, dict):
            continue
        old, new = (f"{_line(hunk, f'{side}Start')},{_line(hunk, f'{side}Lines')}" for side in ("old", "new"))
        lines.append(f"@@ -{old} +{new} @@")
        body = hunk.get("lines")
        for line in body if isinstance(body, list) else []:
            lines.append(clean(line))
            size += len(lines[-1])
            if size > DIFF_BYTES:
                return "\n".join(lines)
    return "\n".join([*lines, ""]) if len(lines) > 2 else ""


def _line(hunk: dict[str, Any], name: str) -> int:
    number = hunk.get(name)
    return number if isinstance(number, int) and 0 <= number < 1 << 31 else 0
