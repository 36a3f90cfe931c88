"""Boots take turns."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from runner.lifecycle import boots
from runner.lifecycle.boots import Boots
from servicekit.testing import wait_until


class Boot:
    """One that boots until it is told to end."""

    def __init__(self, queue: Boots, journal: list[str], name: str, *, spare: bool = False) -> None:
        self.booted = asyncio.Event()
        self.task = asyncio.create_task(self._run(queue, journal, name, spare))

    async def _run(self, queue: Boots, journal: list[str], name: str, spare: bool) -> None:
        async with queue.slot(spare=spare):
            journal.append(name)
            await self.booted.wait()

    async def end(self) -> None:
        self.booted.set()
        await self.task


async def turns_of_the_loop() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_so_many_at_once_and_the_others_in_the_order_they_came() -> None:
    queue, journal = Boots(2), list[str]()
    booting = [Boot(queue, journal, str(number)) for number in range(5)]
    await turns_of_the_loop()
    assert journal == ["0", "1"]
    for number, boot in enumerate(booting):
        await boot.end()
        await turns_of_the_loop()
        assert journal == [str(name) for name in range(min(number + 3, 5))]


async def test_spare_ones_boot_when_nobody_waits() -> None:
    queue, journal = Boots(1), list[str]()
    first = Boot(queue, journal, "first")
    await turns_of_the_loop()
    spare = Boot(queue, journal, "spare", spare=True)
    await turns_of_the_loop()
    second = Boot(queue, journal, "second")
    await turns_of_the_loop()
    for boot in (first, second, spare):
        await boot.end()
    assert journal == ["first", "second", "spare"]


async def test_one_that_is_given_up_leaves_its_place_in_the_queue_and_its_slot() -> None:
    queue, journal = Boots(1), list[str]()
    first, gone, last = (Boot(queue, journal, name) for name in ("first", "gone", "last"))
    await turns_of_the_loop()
    for boot in (gone, first):
        boot.task.cancel()
        with suppress(asyncio.CancelledError):
            await boot.task
    await last.end()
    assert journal == ["first", "last"]


async def test_one_that_hangs_holds_up_the_others_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boots, "_LONG_SECONDS", 0.05)
    queue, journal = Boots(1), list[str]()
    hanging, following = Boot(queue, journal, "hanging"), Boot(queue, journal, "following")
    await wait_until(lambda: journal == ["hanging", "following"])
    third = Boot(queue, journal, "third")
    await hanging.end()
    await turns_of_the_loop()
    # It had given its slot up already, and has none to give.
    assert journal[:2] == ["hanging", "following"]
    await following.end()
    await third.end()
