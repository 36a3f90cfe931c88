"""Every public method by every kind of caller: generated from the contract, so that no method is left out."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from pointsman.router.v1 import key_service_pb2, key_service_pb2_grpc
from pointsman.session.v1 import (
    session_service_pb2,
    session_service_pb2_grpc,
    template_service_pb2,
    template_service_pb2_grpc,
)
from servicekit.access import ACCESS, ROLES, SCOPES, Access, needed
from support.public_methods import METHODS, ids, request_of, template_of

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]

OPEN = {"GetHealth"}
LOCKED = [method for method in METHODS if method.name not in OPEN]
# What is asked about must be a thing of somebody's.
NAMED = [method for method in LOCKED if method.name not in OPEN and method.input_type.fields]
IDS = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|keys/[a-z0-9]+")


@dataclass(frozen=True)
class Answer:
    """How a call ended."""

    code: str
    reason: str
    message: str


@dataclass
class Callers:
    """An installation, and a key of every kind."""

    channel: grpc.Channel
    owner: str
    keys: dict[str, str]
    session: str
    key_name: str

    def call(self, method: MethodDescriptor, request: Message, key: str | None) -> Answer:
        metadata = () if key is None else (("authorization", f"Bearer {key}"),)
        path = f"/{method.containing_service.full_name}/{method.name}"
        kind = self.channel.unary_stream if method.server_streaming else self.channel.unary_unary
        call = kind(
            path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        try:
            answer = call(request, metadata=metadata, timeout=60)
            if method.server_streaming:
                next(iter(answer), None)
                answer.cancel()
        except grpc.RpcError as error:
            return _answer(error)
        return Answer("OK", "", "")


def _answer(error: Any) -> Answer:
    raw = next((value for name, value in error.trailing_metadata() if name == "grpc-status-details-bin"), b"")
    info = error_details_pb2.ErrorInfo()
    for detail in status_pb2.Status.FromString(raw).details:
        detail.Unpack(info)
    return Answer(error.code().name, info.reason, error.details())


@pytest.fixture(scope="module")
def callers(suite: Any) -> Iterator[Callers]:
    with grpc.insecure_channel(f"localhost:{suite.port}") as channel:
        owner = (("authorization", f"Bearer {suite.key}"),)
        keys = key_service_pb2_grpc.KeyServiceStub(channel)

        def make(**fields: Any) -> Any:
            request = key_service_pb2.CreateKeyRequest(key=key_service_pb2.Key(**fields))
            return keys.CreateKey(request, metadata=owner, timeout=60)

        revoked = make()
        keys.RevokeKey(key_service_pb2.RevokeKeyRequest(name=revoked.key.name), metadata=owner)
        expired = make(expire_time={"seconds": int(time.time()) + 4})
        foreign = make(tenant="foreign", role=key_service_pb2.KEY_ROLE_ADMIN)
        pinned = make(account="pinned", role=key_service_pb2.KEY_ROLE_ADMIN)
        sessions = session_service_pb2_grpc.SessionServiceStub(channel)
        made = sessions.CreateSession(
            session_service_pb2.CreateSessionRequest(account="other"), metadata=owner
        )
        template = template_service_pb2.Template(name=template_of(made.session.name), account="other")
        template_service_pb2_grpc.TemplateServiceStub(channel).CreateTemplate(
            template_service_pb2.CreateTemplateRequest(template=template), metadata=owner
        )
        found = Callers(
            channel=channel,
            owner=suite.key,
            keys={
                "wrong": "wrong-key",
                "revoked": revoked.secret,
                "expired": expired.secret,
                "foreign": foreign.secret,
                "pinned": pinned.secret,
                **{scope: make(scopes=[scope]).secret for scope in SCOPES},
                **{
                    role: make(role=key_service_pb2.KeyRole.Value(f"KEY_ROLE_{role.upper()}")).secret
                    for role in ROLES
                },
            },
            session=made.session.name,
            key_name=make(title="somebody's").key.name,
        )
        deadline = time.monotonic() + 60
        while found.call(
            METHODS[-1], request_of(METHODS[-1], found.session), found.keys["expired"]
        ).reason != ("CREDENTIAL_EXPIRED"):
            assert time.monotonic() < deadline
        yield found


@pytest.mark.parametrize("method", LOCKED, ids=ids)
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (None, "CREDENTIAL_MISSING"),
        ("wrong", "CREDENTIAL_INVALID"),
        ("expired", "CREDENTIAL_EXPIRED"),
        ("revoked", "CREDENTIAL_REVOKED"),
    ],
)
def test_a_credential_that_is_not_good_opens_nothing(callers, method, kind, reason):
    key = None if kind is None else callers.keys[kind]
    answer = callers.call(method, request_of(method, callers.session), key)
    assert (answer.code, answer.reason) == ("UNAUTHENTICATED", reason)


@pytest.mark.parametrize("method", METHODS, ids=ids)
def test_a_role_opens_what_the_table_says_and_nothing_else(callers, method):
    row = needed(ACCESS, f"/{method.containing_service.full_name}/{method.name}")
    request = request_of(method, f"sessions/{uuid.uuid4()}")
    for role, scopes in ROLES.items():
        answer = callers.call(method, request, callers.keys[role])
        allowed = row is Access.OPEN or (row is not None and row.value in scopes)
        assert (answer.reason != "SCOPE_MISSING") is allowed, (role, answer)
        if not allowed:
            assert answer.code == "PERMISSION_DENIED"


@pytest.mark.parametrize("method", LOCKED, ids=ids)
def test_every_scope_but_the_right_one_is_refused(callers, method):
    row = needed(ACCESS, f"/{method.containing_service.full_name}/{method.name}")
    request = request_of(method, f"sessions/{uuid.uuid4()}")
    for scope in SCOPES:
        answer = callers.call(method, request, callers.keys[scope])
        assert (answer.reason == "SCOPE_MISSING") is (row is None or scope != row.value), (scope, answer)


@pytest.mark.parametrize("method", NAMED, ids=ids)
@pytest.mark.parametrize("kind", ["foreign", "pinned"])
def test_what_is_somebody_elses_answers_like_what_is_not_there(callers, method, kind):
    key = callers.keys[kind]
    theirs = callers.call(method, request_of(method, callers.session, callers.key_name), key)
    missing = callers.call(method, request_of(method, f"sessions/{uuid.uuid4()}"), key)
    assert (theirs.code, theirs.reason) == (missing.code, missing.reason)
    assert IDS.sub("…", theirs.message) == IDS.sub("…", missing.message)
    about = {"name", "session", "turn", "session_id"} & set(method.input_type.fields_by_name)
    # These take it as a filter, and find nothing, or as what is to be. An account is there once it is named:
    # each tenant has one of that name, and a pinned credential hears that it is not its own.
    if about and method.name not in ("CreateSession", "GetUsage", "GetAccount"):
        assert theirs.code == "NOT_FOUND"


@pytest.mark.parametrize("method", LOCKED, ids=ids)
def test_a_pinned_key_acts_in_its_own_account_only(callers, method):
    field = next(
        (
            field.name
            for field in method.input_type.fields
            if field.name in ("account", "account_id") and field.type == field.TYPE_STRING
        ),
        None,
    )
    if field is None or method.name == "ListKeys":
        return
    request = request_of(method, "")
    setattr(request, field, "other")
    names_a_session = method.name != "CreateSession" and method.containing_service.name != "TemplateService"
    for name in ("session", "session_id", "name"):
        if name in method.input_type.fields_by_name and names_a_session:
            request.ClearField(name)
    answer = callers.call(method, request, callers.keys["pinned"])
    assert answer.reason == "ACCOUNT_PINNED", answer
