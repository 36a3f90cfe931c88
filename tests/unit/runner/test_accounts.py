"""Whose a session is, is known from what was said first, also after a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from runner.names import SessionRef
from runner.workspace.accounts import Accounts

SESSION = SessionRef("acme", "6f1a3b1e-0000-4000-8000-000000000001")


def files(folder: Path) -> list[str]:
    return [path.read_text() for path in folder.rglob("*") if path.is_file()]


async def test_the_first_account_that_is_said_counts_and_outlives_a_restart(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path)
    assert accounts.of(SESSION) is None
    assert await accounts.note(SESSION, "one") == "one"
    assert await accounts.note(SESSION, "two") == "one"
    again = Accounts(tmp_path)
    assert again.of(SESSION) == "one"
    assert await again.note(SESSION, "two") == "one"
    assert again.of(SessionRef("other", SESSION.session_id)) is None


async def test_of_many_at_once_one_is_right(tmp_path: Path) -> None:
    said = await asyncio.gather(*(Accounts(tmp_path).note(SESSION, f"account{n}") for n in range(20)))
    assert len(set(said)) == 1
    assert files(tmp_path) == [said[0]]


async def test_a_deleted_session_is_forgotten(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path)
    await accounts.note(SESSION, "one")
    accounts.forget(SESSION)
    accounts.forget(SESSION)
    assert accounts.of(SESSION) is None
    assert await accounts.note(SESSION, "two") == "two"


async def test_what_is_remembered_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.workspace.accounts._REMEMBERED", 3)
    accounts = Accounts(tmp_path)
    for number in range(10):
        session = SessionRef("acme", f"6f1a3b1e-0000-4000-8000-{number:012}")
        assert await accounts.note(session, f"account{number}") == f"account{number}"
    assert len(accounts._known) == 3
    assert await accounts.note(SessionRef("acme", "6f1a3b1e-0000-4000-8000-000000000000"), "x") == "account0"
