"""A stream of events that says nothing, not even `keep_alive`, is broken."""

from __future__ import annotations

import asyncio

import pytest
from pointsman_client import client


class Silent:
    """A stream with one message, then nothing."""

    def __init__(self) -> None:
        self._left = ["hello"]

    def __aiter__(self) -> Silent:
        return self

    async def __anext__(self) -> str:
        if self._left:
            return self._left.pop()
        await asyncio.get_running_loop().create_future()
        raise AssertionError


async def test_a_silent_stream_ends(monkeypatch):
    monkeypatch.setattr(client, "_SILENCE_SECONDS", 0.05)
    messages = client._unless_silent(Silent())
    assert await anext(messages) == "hello"
    with pytest.raises(TimeoutError):
        await anext(messages)
