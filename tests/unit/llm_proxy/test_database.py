"""The ledger's one worker outlives whatever its jobs do, and does not work for those that left."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from llm_proxy.ledger.database import open_database
from llm_proxy.ledger.ledger import Ledger
from llm_proxy.ledger.scopes import Payer
from servicekit.errors import Failure
from sqlalchemy import Connection, text

PAYER = Payer("acme", "main")


async def test_an_amount_that_no_database_holds_harms_its_own_call_only(tmp_path: Path) -> None:
    async with open_database(f"sqlite:///{tmp_path}/ledger.db") as database:
        ledger = Ledger(database, (), "here")
        results = await asyncio.gather(
            *(ledger.reserve(PAYER, "demo/offline", amount) for amount in (1, 10**30, 2)),
            return_exceptions=True,
        )
        assert [type(result).__name__ for result in results] == ["Reservation", "Failure", "Reservation"]
        assert isinstance(results[1], Failure) and results[1].reason_name == "INTERNAL"
        assert await ledger.reserve(PAYER, "demo/offline", 3)


async def test_a_job_whose_caller_left_before_it_began_takes_no_effect(tmp_path: Path) -> None:
    async with open_database(f"sqlite:///{tmp_path}/ledger.db") as database:

        def insert(connection: Connection) -> None:
            connection.execute(text("INSERT INTO llm_balances VALUES ('k', 'total', 1, 0)"))

        def count(connection: Connection) -> int:
            return int(connection.execute(text("SELECT count(*) FROM llm_balances")).scalar_one())

        leaving = asyncio.ensure_future(database.run(insert))
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert await database.run(count) == 0
