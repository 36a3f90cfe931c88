import asyncio

import pytest
from pointsman.errors.v1 import errors_pb2
from servicekit.context import (
    account_of,
    acting_as,
    current_passport,
    current_request_id,
    log_fields,
)
from servicekit.errors import Failure
from servicekit.passport import Passport

FREE = Passport("acme", None, "alice", frozenset())
PINNED = Passport("acme", "team-1", "alice", frozenset())


def test_the_account_is_the_default_when_none_is_asked_for() -> None:
    with acting_as(FREE) as call:
        assert account_of("") == "default"
    assert call.log_fields == {"account": "default"}


def test_the_account_is_the_requested_one_in_lower_case() -> None:
    with acting_as(FREE):
        assert account_of("Team-2") == "team-2"


def test_a_pinned_account_is_taken_and_may_be_asked_for() -> None:
    with acting_as(PINNED):
        assert account_of("") == "team-1"
        assert account_of("TEAM-1") == "team-1"


def test_another_account_than_the_pinned_one_is_refused() -> None:
    with acting_as(PINNED), pytest.raises(Failure) as caught:
        account_of("team-2")
    assert caught.value.reason == errors_pb2.ERROR_REASON_ACCOUNT_PINNED
    # The pin of somebody's credential is not for everybody who holds a copy of it to read.
    assert "team-1" not in caught.value.message


@pytest.mark.parametrize("name", ["../x", "a/b", "-rf", ".", "a" * 64, "ä", "a\x00", "a\n", " a", "%2e%2e"])
def test_what_is_no_account_name_is_refused(name: str) -> None:
    with acting_as(FREE), pytest.raises(Failure) as caught:
        account_of(name)
    assert caught.value.reason == errors_pb2.ERROR_REASON_INVALID_FIELD
    assert [path for path, _ in caught.value.fields] == ["account"]


def test_outside_of_a_call_there_is_no_caller() -> None:
    with pytest.raises(LookupError):
        current_passport()
    with pytest.raises(LookupError):
        current_request_id()
    log_fields(session="s1")


async def test_calls_side_by_side_do_not_see_each_other() -> None:
    both = asyncio.Barrier(2)

    async def call(request_id: str) -> str:
        with acting_as(FREE, request_id):
            async with asyncio.timeout(60):
                await both.wait()
            return current_request_id()

    assert tuple(await asyncio.gather(call("a"), call("b"))) == ("a", "b")
