"""The table of who may call what, as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from google.protobuf.descriptor import MethodDescriptor
from pointsman.llm.v1 import model_service_pb2
from pointsman.router.v1 import audit_service_pb2, key_service_pb2, router_service_pb2
from pointsman.session.v1 import (
    account_service_pb2,
    session_service_pb2,
    template_service_pb2,
    workspace_service_pb2,
)
from pointsman.system.v1 import system_service_pb2
from servicekit.access import ACCESS, ROLES, SCOPES, Access, check_scope, needed
from servicekit.errors import Failure
from servicekit.passport import Passport

PUBLIC = {
    "RouterService": router_service_pb2,
    "KeyService": key_service_pb2,
    "AuditService": audit_service_pb2,
    "SessionService": session_service_pb2,
    "WorkspaceService": workspace_service_pb2,
    "TemplateService": template_service_pb2,
    "AccountService": account_service_pb2,
    "ModelService": model_service_pb2,
    "SystemService": system_service_pb2,
}
# Nobody who may only look has one of these.
READING = ("Get", "List", "Watch", "Read", "Diff", "Export")


def methods() -> Iterator[MethodDescriptor]:
    for name, module in PUBLIC.items():
        yield from module.DESCRIPTOR.services_by_name[name].methods


def row(method: MethodDescriptor) -> Access:
    found = needed(ACCESS, f"/{method.containing_service.full_name}/{method.name}")
    assert found is not None
    return found


def may(role: str, method: MethodDescriptor) -> bool:
    try:
        check_scope(row(method), Passport("acme", None, "tester", frozenset({role})), method.full_name)
    except Failure:
        return False
    return True


def test_every_role_may_all_that_the_one_before_it_may():
    names = list(ROLES)
    assert names == ["viewer", "member", "operator", "admin", "owner"]
    for lesser, greater in pairwise(names):
        assert ROLES[lesser] < ROLES[greater] <= SCOPES


@pytest.mark.parametrize("method", list(methods()), ids=lambda method: method.full_name)
def test_a_viewer_changes_nothing_and_a_member_does_not_rule(method):
    if may("viewer", method):
        assert method.name.startswith(READING)
    if may("member", method) and not may("viewer", method):
        assert not method.name.startswith(READING)
    # The insides are those of the whole installation; an administrator is one of a tenant.
    assert may("admin", method) == (method.name != "GetDebug")
    assert may("owner", method)
    assert row(method) is not Access.PUBLIC


@pytest.mark.parametrize("method", list(methods()), ids=lambda method: method.full_name)
def test_a_credential_without_scopes_may_only_knock(method):
    assert may("", method) == (method.name == "GetHealth")


def test_no_scope_from_outside_is_the_services_own():
    assert "internal" not in SCOPES
    assert not any("internal" in scopes for scopes in ROLES.values())
