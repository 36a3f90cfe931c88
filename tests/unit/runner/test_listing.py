"""Pages of folders of any size: bounded in time and memory, each entry once, whatever changes meanwhile."""

from __future__ import annotations

import os
import random
import time
import tracemalloc
from pathlib import Path

import pytest
from pointsman.errors.v1 import errors_pb2
from runner.workspace.listing import SORTED_ENTRIES, list_files
from servicekit.errors import Failure

FULL = os.environ.get("CHAOS_FULL") == "1"
LARGE = 300_000 if FULL else 30_000


def pages(root: Path, folder: str = "", *, recursive: bool = False, limit: int = 1000) -> list[str]:
    found: list[str] = []
    token = ""
    while True:
        page, token = list_files(root, folder, recursive=recursive, token=token, limit=limit)
        assert len(page) <= limit
        found += [entry.path for entry in page]
        if not token:
            return found


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("large")
    (root / "d").mkdir()
    for number in range(LARGE):
        (root / "d" / f"{number:x}").touch()
    return root


def test_a_page_of_a_large_folder_costs_a_page(large: Path) -> None:
    token = ""
    for _ in range(3):
        tracemalloc.start()
        began = time.thread_time()
        page, token = list_files(large, "d", recursive=False, token=token, limit=1)
        took = time.thread_time() - began
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(page) == 1
        assert token
        # Also with the measuring of memory, which makes it five times slower.
        assert took < 0.5
        assert peak < 4 * 1024 * 1024


def test_every_entry_of_a_large_folder_is_listed_once(large: Path) -> None:
    found = pages(large, "d")
    assert len(found) == LARGE
    assert len(set(found)) == LARGE
    deep = pages(large, recursive=True)
    assert deep[0] == "d"
    assert sorted(deep[1:]) == sorted(found)


def test_what_stays_is_listed_once_while_others_come_and_go(tmp_path: Path) -> None:
    stay = {f"stay-{number}" for number in range(SORTED_ENTRIES * 2)}
    for name in stay:
        (tmp_path / name).touch()
    chance = random.Random(7)
    found: list[str] = []
    token, round_ = "", 0
    while True:
        page, token = list_files(tmp_path, "", recursive=False, token=token, limit=500)
        found += [entry.path for entry in page]
        if not token:
            break
        round_ += 1
        for number in range(200):
            (tmp_path / f"comes-{round_}-{number}").touch()
        for name in chance.sample(sorted(os.listdir(tmp_path)), 200):  # noqa: PTH208
            if name.startswith("comes-"):
                (tmp_path / name).unlink()
    kept = [name for name in found if name in stay]
    assert len(kept) == len(stay)
    assert set(kept) == stay


def test_a_folder_that_grows_large_between_pages_goes_on_by_name(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"a{number}").touch()
    first, token = list_files(tmp_path, "", recursive=False, token="", limit=5)
    for number in range(SORTED_ENTRIES + 10):
        (tmp_path / f"b{number}").touch()
    found = [entry.path for entry in first]
    while token:
        page, token = list_files(tmp_path, "", recursive=False, token=token, limit=1000)
        found += [entry.path for entry in page]
    assert found == sorted(os.listdir(tmp_path))  # noqa: PTH208


def test_names_of_any_bytes_and_folders_that_go_away(tmp_path: Path) -> None:
    odd = [b"\xff", b"new\nline", b" ", "ü".encode(), b"x" * 255]
    for name in odd:
        (tmp_path / os.fsdecode(name)).mkdir()
        (tmp_path / os.fsdecode(name) / "in").touch()
    assert len(pages(tmp_path, recursive=True, limit=1)) == 2 * len(odd)
    page, token = list_files(tmp_path, "", recursive=True, token="", limit=1)
    (tmp_path / page[0].path / "in").unlink()
    (tmp_path / page[0].path).rmdir()
    rest, token = list_files(tmp_path, "", recursive=True, token=token, limit=100)
    assert (len(rest), token) == (2 * (len(odd) - 1), "")


@pytest.mark.parametrize(
    "token", ["x", "!", "Li4=", "YQBi", "YQA5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5", "YQAtMQ=="]
)
def test_a_token_that_is_none_is_refused(tmp_path: Path, token: str) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(Failure) as caught:
        list_files(tmp_path, "", recursive=False, token=token, limit=1)
    assert caught.value.reason == errors_pb2.ERROR_REASON_PAGE_TOKEN_INVALID
