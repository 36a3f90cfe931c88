"""How long somebody who is away is waited for."""

from __future__ import annotations

import time
from datetime import timedelta

import grpc
import pytest
from pointsman_client import LimitReached, NotFound, Unavailable
from pointsman_client.patience import Patience, passes

AWAY = Unavailable("away", code=grpc.StatusCode.UNAVAILABLE)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_what_will_not_pass_is_raised_at_once():
    refusal = NotFound("no such session", reason="SESSION_NOT_FOUND", code=grpc.StatusCode.NOT_FOUND)
    with pytest.raises(NotFound) as raised:
        await Patience(30, passes).wait(refusal)
    assert raised.value is refusal


async def test_patience_ends_so_many_seconds_after_the_last_contact():
    clock = Clock()
    patience = Patience(30, passes, clock=clock)
    clock.now = 29.99
    await patience.wait(AWAY)
    patience.contact()
    clock.now = 59.98
    await patience.wait(AWAY)
    clock.now = 60.0
    with pytest.raises(Unavailable):
        await patience.wait(AWAY)


async def test_who_says_when_to_come_back_is_believed_unless_that_is_too_late():
    late = LimitReached("wait", reason="RATE_LIMITED", retry_after=timedelta(seconds=31))
    with pytest.raises(LimitReached):
        await Patience(30, passes).wait(late)
    soon = LimitReached("wait", reason="RATE_LIMITED", retry_after=timedelta(seconds=0.2))
    begun = time.monotonic()
    await Patience(30, passes, first_pause=0.001).wait(soon)
    assert time.monotonic() - begun >= 0.2
