"""API keys: made, shown once, pinned, expired, taken back; each tenant to its own."""

from __future__ import annotations

import base64
import json
import time
import uuid
from typing import Any

import grpc.aio
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from pointsman.errors.v1 import errors_pb2
from pointsman.router.v1 import key_service_pb2 as pb
from servicekit.errors import Failure
from servicekit.passport import PASSPORT_HEADER
from servicekit.testing import wait_until
from support.files import contents
from support.router_edge import ask, passport_of, reason_of


async def make(
    house: Any, caller: Any = None, *, request_id: str = "", **fields: Any
) -> pb.CreateKeyResponse:
    request = pb.CreateKeyRequest(key=pb.Key(**fields), request_id=request_id)
    made: pb.CreateKeyResponse = await house.api_keys.CreateKey(
        request, metadata=caller or house.caller(), timeout=60
    )
    return made


async def refusal(call: Any) -> Failure:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return Failure.from_rpc_error(refused.value, "router")


async def test_a_new_key_lets_its_holder_in_with_its_role_and_pin(house):
    made = await make(house, title="CI", role=pb.KEY_ROLE_VIEWER, account="Team-1")
    passport = passport_of(house, await ask(house, made.secret))
    key_id = made.key.name.removeprefix("keys/")
    assert (passport.tenant, passport.account) == ("acme", "team-1")
    assert (passport.principal, passport.credential) == (f"key:{key_id}", key_id)
    assert passport.scopes == {"viewer"}
    assert made.key.creator == "tester"


async def test_a_key_is_a_members_unless_it_is_said_otherwise(house):
    assert (await make(house)).key.role == pb.KEY_ROLE_MEMBER
    narrow = await make(house, scopes=["turns.run"])
    assert passport_of(house, await ask(house, narrow.secret)).scopes == {"turns.run"}


async def test_the_secret_is_kept_nowhere(house, tmp_path):
    made = await make(house)
    stored = b"".join(contents(tmp_path / "data" / "router").values())
    assert made.key.name.removeprefix("keys/").encode() in stored
    assert made.secret.rpartition("_")[2].encode() not in stored
    listed = await house.api_keys.ListKeys(pb.ListKeysRequest(), metadata=house.caller())
    assert made.secret.rpartition("_")[2] not in str(listed)


async def test_a_revoked_key_is_refused_at_once_and_says_so(house):
    made = await make(house)
    assert (await ask(house, made.secret)).status.code == 0
    for _ in range(2):
        revoked = await house.api_keys.RevokeKey(
            pb.RevokeKeyRequest(name=made.key.name), metadata=house.caller()
        )
        assert revoked.key.revoke_time.seconds > 0
    assert reason_of(await ask(house, made.secret)) == "CREDENTIAL_REVOKED"


async def test_a_key_is_good_until_it_expires_and_then_refused_with_that_reason(house):
    soon = Timestamp()
    until = time.time() + 1.5
    soon.FromMicroseconds(int(until * 1_000_000))
    made = await make(house, expire_time=soon)
    first = await ask(house, made.secret)
    # On a machine that has stood still meanwhile, it may be over already.
    assert first.status.code == 0 or time.time() > until

    async def refused() -> bool:
        return bool((await ask(house, made.secret)).status.code != 0)

    await wait_until(refused)
    assert reason_of(await ask(house, made.secret)) == "CREDENTIAL_EXPIRED"


async def test_a_key_with_a_wrong_secret_is_as_unknown_as_any(house):
    made = await make(house)
    last = "A" if made.secret[-1] != "A" else "B"
    for guess in (made.secret[:-1] + last, "pm_nosuchkey234_" + "A" * 43, made.secret + "x"):
        assert reason_of(await ask(house, guess)) == "CREDENTIAL_INVALID"


async def test_the_same_request_makes_one_key_and_shows_its_secret_once(house):
    request_id = str(uuid.uuid4())
    first = await make(house, title="CI", request_id=request_id)
    again = await make(house, title="CI", request_id=request_id)
    assert (again.key, again.secret) == (first.key, "")
    failure = await refusal(make(house, title="other", request_id=request_id))
    assert failure.reason == errors_pb2.ERROR_REASON_REQUEST_ID_REUSED


@pytest.mark.parametrize(
    ("scopes", "wanted", "required"),
    [
        ({"member"}, {}, "keys.manage"),
        ({"keys.manage"}, {"scopes": ["turns.run"]}, "turns.run"),
        ({"admin"}, {"role": pb.KEY_ROLE_OWNER}, "system.read"),
        ({"admin"}, {"tenant": "other"}, "tenants.manage"),
    ],
)
async def test_nobody_gives_away_more_than_they_have(house, scopes, wanted, required):
    failure = await refusal(make(house, house.caller(scopes=scopes), **wanted))
    assert failure.reason == errors_pb2.ERROR_REASON_SCOPE_MISSING
    assert failure.metadata == {"required": required}


async def test_a_pinned_caller_makes_and_sees_keys_with_its_own_pin(house):
    pinned = house.caller(account="mine")
    await make(house, title="free")
    assert (await make(house, pinned)).key.account == "mine"
    failure = await refusal(make(house, pinned, account="other"))
    assert failure.reason == errors_pb2.ERROR_REASON_ACCOUNT_PINNED
    listed = await house.api_keys.ListKeys(pb.ListKeysRequest(), metadata=pinned)
    assert [key.account for key in listed.keys] == ["mine"]


async def test_an_owner_makes_keys_of_other_tenants_and_takes_them_back(house):
    owner = house.caller(tenant="default", scopes={"owner"})
    made = await make(house, owner, tenant="other", role=pb.KEY_ROLE_ADMIN)
    assert passport_of(house, await ask(house, made.secret)).tenant == "other"
    await house.api_keys.RevokeKey(pb.RevokeKeyRequest(name=made.key.name), metadata=owner)
    assert reason_of(await ask(house, made.secret)) == "CREDENTIAL_REVOKED"


async def test_a_foreign_key_answers_like_a_missing_one(house):
    made = await make(house)
    stranger = house.caller(tenant="other")
    request = pb.RevokeKeyRequest(name=made.key.name)
    foreign = await refusal(house.api_keys.RevokeKey(request, metadata=stranger))
    missing = await refusal(
        house.api_keys.RevokeKey(pb.RevokeKeyRequest(name="keys/abcdefghjkmn"), metadata=stranger)
    )
    assert foreign.reason == missing.reason == errors_pb2.ERROR_REASON_KEY_NOT_FOUND
    assert foreign.message == missing.message.replace("abcdefghjkmn", made.key.name.removeprefix("keys/"))
    assert not (await house.api_keys.ListKeys(pb.ListKeysRequest(), metadata=stranger)).keys


async def first_token(house: Any) -> str:
    page = await house.api_keys.ListKeys(pb.ListKeysRequest(page_size=1), metadata=house.caller())
    return str(page.next_page_token)


async def test_keys_are_listed_newest_first_page_by_page(house):
    made = [(await make(house, title=str(number))).key.name for number in range(5)]
    seen, token = [], ""
    while True:
        page = await house.api_keys.ListKeys(
            pb.ListKeysRequest(page_size=2, page_token=token), metadata=house.caller()
        )
        seen += [key.name for key in page.keys]
        token = page.next_page_token
        if not token:
            break
    assert seen == made[::-1]
    marked = json.loads(base64.urlsafe_b64decode(await first_token(house)))
    too_big = base64.urlsafe_b64encode(json.dumps([marked[0], 2**80, "x"]).encode()).decode()
    for garbage in ("x", "W10", "WyJhdWRpdCIsMV0", too_big):
        request = pb.ListKeysRequest(page_token=garbage)
        failure = await refusal(house.api_keys.ListKeys(request, metadata=house.caller()))
        assert failure.reason == errors_pb2.ERROR_REASON_PAGE_TOKEN_INVALID


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"scopes": ["internal"]}, "key.scopes"),
        ({"title": "a\0b"}, "key.title"),
        ({"expire_time": {"seconds": 5}}, "key.expire_time"),
    ],
)
async def test_a_key_that_makes_no_sense_is_refused(house, fields, field):
    failure = await refusal(make(house, **fields))
    assert failure.reason == errors_pb2.ERROR_REASON_INVALID_FIELD
    assert failure.fields[0][0] == field


async def test_keys_outlive_a_restart(open_house):
    async with open_house() as house:
        made = await make(house)
    async with open_house() as again:
        assert (await ask(again, made.secret)).status.code == 0


def at(seconds: float) -> Timestamp:
    time_ = Timestamp()
    time_.FromSeconds(int(time.time() + seconds))
    return time_


async def made_by(house: Any, secret: str) -> Any:
    """Metadata of a call by the holder of a key."""
    passport = passport_of(house, await ask(house, secret))
    return ((PASSPORT_HEADER, house.keys.signer("router").sign(passport)),)


async def test_a_key_does_not_outlive_the_key_that_makes_it(house):
    ends = at(3600)
    parent = await make(house, role=pb.KEY_ROLE_ADMIN, expire_time=ends)
    caller = await made_by(house, parent.secret)
    assert (await make(house, caller)).key.expire_time == ends
    assert (await make(house, caller, expire_time=at(60))).key.expire_time.seconds < ends.seconds
    refused = await refusal(make(house, caller, expire_time=at(7200)))
    assert (refused.reason_name, refused.fields[0][0]) == ("INVALID_FIELD", "key.expire_time")
    child = await make(house, caller, role=pb.KEY_ROLE_ADMIN)
    grandchild = await make(house, await made_by(house, child.secret))
    assert grandchild.key.expire_time == ends


async def test_a_pinned_owner_makes_no_keys_of_other_tenants(house):
    caller = house.caller(account="team-1", scopes={"owner"})
    refused = await refusal(make(house, caller, tenant="another", account="team-1"))
    assert refused.reason_name == "ACCOUNT_PINNED"


async def test_a_request_id_of_another_account_tells_nothing(house):
    used = str(uuid.uuid4())
    one, two = (house.caller(account=name, principal=name) for name in ("team-1", "team-2"))
    first = await make(house, one, request_id=used)
    second = await make(house, two, request_id=used, title="another")
    assert second.secret
    assert first.key.name != second.key.name
