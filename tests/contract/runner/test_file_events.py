"""A turn's file events, applied in their order, give the files as the turn leaves them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pointsman.session.v1 import event_pb2
from support.runner_house import new_id
from support.scripted_anthropic import Reply

OpenRunner = Callable[..., Any]
DELETED = event_pb2.FILE_CHANGE_TYPE_DELETED
_CELL = {
    "cell_type": "code",
    "id": "c1",
    "metadata": {},
    "source": ["print(1)\n"],
    "outputs": [],
    "execution_count": 1,
}
NOTEBOOK = json.dumps(
    {
        "cells": [_CELL],
        "metadata": {"language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
)


def bash(command: str) -> Reply:
    return Reply.tool("Bash", {"command": command, "description": "Do it"})


def write(name: str, content: str) -> Reply:
    return Reply.tool("Write", {"file_path": f"/workspace/{name}", "content": content})


def read(name: str) -> Reply:
    return Reply.tool("Read", {"file_path": f"/workspace/{name}"})


def edit(name: str, old: str, new: str) -> Reply:
    return Reply.tool("Edit", {"file_path": f"/workspace/{name}", "old_string": old, "new_string": new})


def edit_notebook(source: str) -> Reply:
    return Reply.tool(
        "NotebookEdit",
        {"notebook_path": "/workspace/n.ipynb", "cell_id": "c1", "new_source": source},
    )


def applied(changes: Sequence[event_pb2.FileChange], folder: Path) -> dict[str, bytes]:
    """Apply all diffs, in order, to the files that the turn found; return what is there then."""
    for change in changes:
        assert not change.truncated, change
        if change.diff:
            subprocess.run(
                ["git", "apply", "--unidiff-zero", "-"],
                input=change.diff.encode(),
                cwd=folder,
                check=True,
                timeout=60,
            )
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "script",
    [
        [write("a.py", "print(1)\n"), bash("rm a.py")],
        [write("a.py", "print(1)\n"), bash("mv a.py b.py")],
        [write("a.py", "print(1)\n"), bash("sed -i s/1/2/ a.py")],
        [write("a.py", "print(1)\n"), bash("sed -i s/1/2/ a.py"), read("a.py"), edit("a.py", "2", "3")],
        [write("a.py", "print(1)\n"), bash("rm a.py; ln -s /etc/passwd a.py")],
        [write("a.py", "print(1)\n"), bash("rm a.py; mkdir a.py; echo x > a.py/b")],
        [write("a.py", "print(1)\n"), bash("touch a.py; chmod +x a.py")],
        [read("old.txt"), edit("old.txt", "one", "two"), bash("sed -i s/two/one/ old.txt")],
        [read("old.txt"), edit("old.txt", "one", "two"), bash("rm old.txt")],
        [read("old.txt"), edit("old.txt", "one", "two"), bash("echo three >> old.txt")],
        [write("node_modules/x.js", "1\n"), bash("echo 2 >> node_modules/x.js")],
        [write("node_modules/x.js", "1\n"), bash("rm -r node_modules")],
        [write("n.ipynb", NOTEBOOK), read("n.ipynb"), edit_notebook("print(2)")],
        [write("n.ipynb", NOTEBOOK), read("n.ipynb"), edit_notebook("print(2)"), bash("rm n.ipynb")],
    ],
)
async def test_the_events_of_a_turn_give_its_files(
    open_runner: OpenRunner, tmp_path: Path, script: list[Reply]
) -> None:
    async with open_runner([*script, Reply.text("Done.")]) as house:
        session = new_id()
        await house.write(session, "old.txt", b"one\n")
        result = await house.run(session, "Go")
        folder = tmp_path / "applied"
        folder.mkdir()
        (folder / "old.txt").write_bytes(b"one\n")
        changes = result.of("file_change")
        there = applied(changes, folder)
        [workspace] = house.data_dir.glob(f"runner/workspaces/*/{session}")
        expected = {
            str(path.relative_to(workspace)): path.read_bytes()
            for path in workspace.rglob("*")
            if path.is_file() and not path.is_symlink()
        }
        assert there == expected
        last = {change.path: change.type for change in changes}
        assert {path for path, kind in last.items() if kind != DELETED} <= expected.keys()


async def test_an_edit_of_a_notebook_names_its_tool(open_runner: OpenRunner) -> None:
    async with open_runner([read("n.ipynb"), edit_notebook("print(3)"), Reply.text("Done.")]) as house:
        session = new_id()
        await house.write(session, "n.ipynb", NOTEBOOK.encode())
        result = await house.run(session, "Go")
        [change] = result.of("file_change")
        assert change.tool_use_id and "print(3)" in change.diff
