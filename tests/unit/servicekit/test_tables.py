from importlib import import_module
from pathlib import Path

import pytest
from google.protobuf.descriptor import ServiceDescriptor
from pointsman.errors.v1 import errors_pb2
from servicekit.access import ACCESS, Access, check_scope, needed
from servicekit.errors import Failure
from servicekit.passport import Passport
from servicekit.retries import IDEMPOTENT

STUBS = Path(errors_pb2.__file__).parents[3]
SERVICES: dict[str, ServiceDescriptor] = {
    service.full_name: service
    for path in sorted(STUBS.glob("pointsman/*/v1/*_service_pb2.py"))
    for service in import_module(
        ".".join(path.relative_to(STUBS).with_suffix("").parts)
    ).DESCRIPTOR.services_by_name.values()
}
OURS = [name for name in (*ACCESS, *IDEMPOTENT) if name.startswith("pointsman.")]

CALLER = Passport("acme", None, "alice", frozenset({"read", "write", "admin"}))
SERVICE = Passport("acme", None, "session", frozenset({"internal"}))


@pytest.mark.parametrize("name", OURS)
def test_every_row_names_something_that_the_protos_have(name: str) -> None:
    service, _, method = name.partition("/")
    assert service in SERVICES
    assert not method or method in SERVICES[service].methods_by_name


@pytest.mark.parametrize(("service", "methods"), IDEMPOTENT.items())
def test_every_method_that_is_tried_again_exists_and_only_reads(
    service: str, methods: tuple[str, ...]
) -> None:
    if service.startswith("pointsman."):
        assert set(methods) <= set(SERVICES[service].methods_by_name)
    reading = ("Get", "List", "Watch", "Read", "Load", "Diff", "Count", "Check", "Resolve", "Find")
    assert all(method.startswith(reading) for method in methods)


def test_a_method_that_is_in_no_row_is_refused_to_everybody() -> None:
    row = needed(ACCESS, "/pointsman.new.v1.NewService/Get")
    assert row is None
    for passport in (CALLER, SERVICE):
        with pytest.raises(Failure) as caught:
            check_scope(row, passport, "pointsman.new.v1.NewService/Get")
        assert caught.value.reason == errors_pb2.ERROR_REASON_SCOPE_MISSING


@pytest.mark.parametrize("service", [name for name, row in ACCESS.items() if row is Access.INTERNAL])
def test_internal_services_are_for_services_only(service: str) -> None:
    row = needed(ACCESS, f"/{service}/Any")
    check_scope(row, SERVICE, service)
    with pytest.raises(Failure) as caught:
        check_scope(row, CALLER, service)
    assert caught.value.metadata == {"required": "internal"}


def test_the_row_of_a_method_goes_before_that_of_its_service() -> None:
    table = {"a.B": Access.INTERNAL, "a.B/Get": Access.OPEN}
    assert needed(table, "/a.B/Get") is Access.OPEN
    assert needed(table, "/a.B/Put") is Access.INTERNAL
    assert needed(table, "/a.B/Get/x") is Access.INTERNAL
