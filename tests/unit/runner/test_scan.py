"""Comparing a workspace takes memory for its files, not for all that lies beside them."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

from runner.workspace import manifest
from runner.workspace.door import Door


def test_entries_that_are_no_files_take_no_memory(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    (workspace / "many").mkdir(parents=True)
    for number in range(20_000):
        (workspace / "many" / f"link{number}").symlink_to("nowhere")
    (workspace / "file").write_text("x")
    tracemalloc.start()
    found = manifest.scan(workspace, {}, tmp_path / "objects")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert set(found) == {"file"}
    assert peak < 1024 * 1024


def test_files_that_go_away_meanwhile_do_not_hide_the_others(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    for number in range(100):
        (workspace / f"f{number}").write_text("x")
    files = manifest._files(Door(workspace), (), 64)
    first, _ = next(files)
    for path in list(workspace.iterdir())[:40]:
        path.unlink()
    left = {path.name for path in workspace.iterdir()}
    assert left <= {first} | {path for path, _ in files}
