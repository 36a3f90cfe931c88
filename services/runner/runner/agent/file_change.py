"""From what the edit tools report to `file_change`, with a diff that reproduces the file.

The tools report lines without their ends, so the diff is made of the file itself: its bytes before the tool
ran, and after.
"""

from __future__ import annotations

import os
import posixpath
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import event_pb2
from servicekit.errors import Failure

from runner.bounded import bounded_text, clean
from runner.diffs import DIFF_BYTES, file_diff
from runner.sandboxes.protocol import MIB, WORKSPACE
from runner.threads import to_the_end
from runner.workspace.door import Door, is_plain
from runner.workspace.told import Told, ToldFiles

EDIT_TOOLS: Final = "Write|Edit|MultiEdit|NotebookEdit"
"""The hook's matcher."""
# Larger files are told as changed, without a diff.
_FILE_BYTES: Final = 2 * 1024 * 1024
# Tools that were announced and have not run: the CLI runs edits one after the other.
_EDITS: Final = 8
# An edit tool reports the whole file as it was, and a message of the agent has 64 MiB.
_EDITABLE_BYTES: Final = 24 * MIB
_PATH_FIELDS: Final = ("file_path", "notebook_path")


class Edits:
    """Looks at files before and after edit tools change them. `workspace` is the folder on the host.

    `told` has each file as its last event describes it.
    """

    def __init__(self, workspace: Path) -> None:
        self.told = ToldFiles()
        self._workspace = workspace
        self._before: OrderedDict[str, _Seen] = OrderedDict()

    async def comes(self, tool_input: Any, tool_use_id: str) -> None:
        """Remember the file that an edit tool is about to change. The input may be anything.

        Raises Failure MESSAGE_TOO_LARGE for a file that is too large for such a tool.
        """
        path = _path_in(tool_input, _PATH_FIELDS)
        if path is None:
            return
        seen = await to_the_end(_look, self._workspace, path)
        if seen.status is not None and seen.status.st_size > _EDITABLE_BYTES:
            raise _too_large(path, seen.status.st_size)
        self._before[tool_use_id] = seen
        while len(self._before) > _EDITS:
            self._before.popitem(last=False)

    async def change(self, report: Any, tool_use_id: str) -> event_pb2.FileChange | None:
        """Return what an edit tool changed; None when it says nothing of a file in the workspace.

        `report` is the hook's `tool_response`. It comes out of the sandbox, so any of it may be anything.
        """
        before = self._before.pop(tool_use_id, None)
        path = _path_in(report, ("filePath", *_PATH_FIELDS))
        if path is None:
            return None
        if before is None or before.path != path:
            before = _Seen(path, known=False, created=report.get("type") == "create")
        if (last := self.told.get(path)) is not None and last.content is not None:
            # A command may have changed it since its last event, and this event says that, too.
            before = _Seen(path, content=last.content)
        after = await to_the_end(_look, self._workspace, path)
        self.told.add(path, Told(after.status, after.content, missing=after.missing))
        return await to_the_end(_change, before, after, tool_use_id)


class _Seen:
    """A file at one moment. `content` is None when it was not there; it says nothing unless `known`."""

    def __init__(
        self,
        path: str,
        *,
        known: bool = True,
        content: bytes | None = None,
        created: bool = False,
        status: os.stat_result | None = None,
    ) -> None:
        self.path = path
        self.status = status
        self.known = known
        self.content = content
        self.missing = created or (known and content is None)


def _too_large(path: str, size: int) -> Failure:
    """Return what the agent is told instead of a report that we could not take."""
    return Failure(
        errors_pb2.ERROR_REASON_MESSAGE_TOO_LARGE,
        f"{path} has {size} bytes; this tool changes files of up to {_EDITABLE_BYTES // MIB} MiB here. Use a "
        "command instead, such as sed or a short script.",
        limit=str(_EDITABLE_BYTES),
    )


def _path_in(said: Any, fields: tuple[str, ...]) -> str | None:
    """Return the path below the workspace that one of these fields names."""
    if not isinstance(said, Mapping):
        return None
    for field in fields:
        if said.get(field):
            return workspace_path(clean(said[field]))
    return None


def workspace_path(path: str) -> str | None:
    """Return the path below the workspace, None when it is not in there."""
    relative = posixpath.relpath(posixpath.normpath(path), WORKSPACE) if path.startswith("/") else ".."
    if relative in (".", "..") or relative.startswith("../") or "\0" in relative:
        return None
    return relative


def _look(workspace: Path, path: str) -> _Seen:
    """Read a file. One behind a link, too large, or not readable is not known."""
    try:
        # A fifo would otherwise make us wait for a writer.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
        with Door(workspace) as door, door.opened(path, flags) as descriptor:
            status = os.fstat(descriptor)
            if not is_plain(status) or status.st_size > _FILE_BYTES:
                return _Seen(path, known=False, status=status)
            content = _read(descriptor)
            return _Seen(path, known=content is not None, content=content, status=status)
    except Failure as failure:
        return _Seen(path, known=failure.reason == errors_pb2.ERROR_REASON_FILE_NOT_FOUND)
    except OSError:
        return _Seen(path, known=False)


def _read(descriptor: int) -> bytes | None:
    content = b""
    while piece := os.read(descriptor, _FILE_BYTES + 1 - len(content)):
        content += piece
        if len(content) > _FILE_BYTES:
            return None
    return content


def _change(before: _Seen, after: _Seen, tool_use_id: str) -> event_pb2.FileChange:
    known = before.known and after.known
    diff = file_diff(after.path, before.content, after.content) if known else None
    text, cut = bounded_text(diff or "", DIFF_BYTES)
    created = event_pb2.FILE_CHANGE_TYPE_CREATED
    return event_pb2.FileChange(
        path=after.path,
        type=created if before.missing else event_pb2.FILE_CHANGE_TYPE_MODIFIED,
        diff=text,
        tool_use_id=tool_use_id,
        truncated=cut or diff is None,
    )
