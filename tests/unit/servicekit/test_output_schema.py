"""Schemas of answers: which are accepted, what is said of those that are not, and that none takes long."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure
from servicekit.output_schema import check_schema, fault_of


def with_property(schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": schema}}


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


BOMB: dict[str, Any] = {
    "type": "object",
    "allOf": [{"$ref": "#/$defs/0"}],
    "$defs": {str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(30)} | {"30": {}},
}


@pytest.mark.parametrize(
    ("schema", "place", "rule"),
    [
        ({"type": "objekt"}, "", '"type": "object"'),
        ({"type": "array", "items": {"type": "string"}}, "", '"type": "object"'),
        ({"properties": {}}, "", '"type": "object"'),
        (with_property({"type": "objekt"}), "properties.a.type", "objekt"),
        (with_property({"minimum": "x"}), "properties.a.minimum", "number"),
        (with_property({"pattern": "("}), "properties.a.pattern", "regex"),
        (with_property({"pattern": "(?=a)b"}), "properties.a.pattern", "regex"),
        (with_property({"pattern": "(a{1000}){1000}"}), "properties.a.pattern", "regex"),
        (with_property({"$ref": "http://127.0.0.1:9/x"}), "properties.a.$ref", "part of this schema"),
        (with_property({"$ref": "file:///etc/passwd"}), "properties.a.$ref", "part of this schema"),
        (with_property({"$ref": "#/$defs/no"}), "properties.a.$ref", "#/$defs/no"),
        (with_property({"$id": "http://127.0.0.1:9/x"}), "properties.a.$id", "not supported"),
        ({"type": "object", "allOf": [{"$ref": "#"}]}, "allOf.0.$ref", "itself"),
        (with_property({"$ref": "#"}), "properties.a.$ref", "itself"),
        (BOMB, "", "parts"),
        (deep(60), "", "deeper"),
        (with_property({"enum": ["x" * 200_000]}), "", "bytes"),
    ],
)
def test_a_schema_that_cannot_be_met_is_refused_with_its_place(
    schema: dict[str, Any], place: str, rule: str
) -> None:
    began = time.thread_time()
    with pytest.raises(Failure) as refused:
        check_schema(schema)
    assert time.thread_time() - began < 5
    assert refused.value.reason == errors_pb2.ERROR_REASON_INVALID_FIELD
    ((field, problem),) = refused.value.fields
    assert field.startswith("options.output_schema")
    assert place in field
    assert rule in problem


def test_what_does_not_fit_is_told_with_its_place() -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"$ref": "#/$defs/small"}, "id": {"type": "string"}},
        "required": ["n"],
        "$defs": {"small": {"type": "integer", "minimum": 1.0, "maximum": 10.0}},
    }
    check_schema(schema)
    assert fault_of(schema, {"n": 3, "id": "x"}) == ""
    assert "at n:" in fault_of(schema, {"n": 99})
    assert "n" in fault_of(schema, {})
    assert fault_of(schema, [3])


def test_a_pattern_takes_linear_time() -> None:
    schema = with_property({"type": "string", "pattern": "^(a+)+$"})
    check_schema(schema)
    began = time.thread_time()
    assert fault_of(schema, {"a": "a" * 100_000 + "b"})
    assert time.thread_time() - began < 5
