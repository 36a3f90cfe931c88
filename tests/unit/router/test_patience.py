"""How long an unreachable service is waited for."""

from __future__ import annotations

import pytest
from pointsman.errors.v1 import errors_pb2
from router.patience import Patience
from servicekit.errors import Failure

AWAY = Failure(errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE, "away")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_what_will_not_pass_is_raised_at_once():
    refusal = Failure(errors_pb2.ERROR_REASON_SESSION_NOT_FOUND, "no such session")
    with pytest.raises(Failure) as raised:
        await Patience(30).wait(refusal)
    assert raised.value is refusal


async def test_patience_ends_so_many_seconds_after_the_last_contact():
    clock = Clock()
    patience = Patience(30, clock=clock)
    clock.now = 29.99
    await patience.wait(AWAY)
    patience.contact()
    clock.now = 59.98
    await patience.wait(AWAY)
    clock.now = 60.0
    with pytest.raises(Failure):
        await patience.wait(AWAY)
