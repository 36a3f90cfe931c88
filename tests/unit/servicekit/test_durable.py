"""Files that survive a power cut are whole, closed, and made once."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from servicekit.durable import create_file, make_private_folder, replace_file


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was synced or got its name, in order."""
    steps: list[str] = []

    def kind(descriptor: object) -> str:
        assert isinstance(descriptor, int)
        return "sync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file"

    def noted(real: Callable[..., None], step: Callable[[object], str]) -> Callable[..., None]:
        def call(*arguments: object) -> None:
            steps.append(step(arguments[0]))
            real(*arguments)

        return call

    monkeypatch.setattr(os, "fsync", noted(os.fsync, kind))
    monkeypatch.setattr(os, "replace", noted(os.replace, lambda _: "name"))
    monkeypatch.setattr(os, "link", noted(os.link, lambda _: "name"))
    return steps


def test_contents_are_synced_before_the_name_and_the_folder_after_it(
    tmp_path: Path, synced: list[str]
) -> None:
    replace_file(tmp_path / "a", b"1")
    assert synced == ["sync file", "name", "sync folder"]
    synced.clear()
    assert create_file(tmp_path / "b", b"1")
    assert synced == ["sync file", "name", "sync folder"]


def test_a_file_that_is_there_is_kept_or_replaced_and_no_draft_is_left(tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert create_file(path, b"first")
    assert not create_file(path, b"second")
    assert path.read_bytes() == b"first"
    replace_file(path, b"third")
    assert path.read_bytes() == b"third"
    assert list(tmp_path.iterdir()) == [path]


def test_files_and_folders_are_closed_to_others(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_private_folder(tmp_path / "a" / "b")
        replace_file(tmp_path / "a" / "b" / "c", b"")
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b", "a/b/c")] == [
        0o700,
        0o700,
        0o600,
    ]


def test_a_link_in_the_place_of_the_file_is_replaced_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("kept")
    (tmp_path / "key").symlink_to(outside)
    replace_file(tmp_path / "key", b"ours")
    assert outside.read_text() == "kept"
    assert not (tmp_path / "key").is_symlink()
