"""Requests made up from an OpenAPI document: right ones, and wrong ones of every kind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st

NOBODY = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True)
class Operation:
    """One operation of the document."""

    path: str
    verb: str
    body: dict[str, Any] = field(hash=False)

    @property
    def name(self) -> str:
        return str(self.body["operationId"])


@dataclass(frozen=True)
class Request:
    """What is sent."""

    path: str
    query: dict[str, str]
    content: bytes | None


def operations(document: dict[str, Any]) -> Iterator[Operation]:
    """Every operation."""
    for path, verbs in document["paths"].items():
        for verb, body in verbs.items():
            yield Operation(path, verb, body)


# What people and attackers put where a text belongs.
TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        [
            "",
            "../../etc/passwd",
            "%2e%2e%2f",
            "a\0b",
            "\u202eabc",
            "' OR 1=1 --",
            NOBODY,
            f"sessions/{NOBODY}",
            "x" * 5000,
        ]
    ),
)
ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**65), 2**65), st.floats(), TEXTS, st.just([]), st.just({})
)


def values(schema: dict[str, Any], document: dict[str, Any], depth: int = 0) -> st.SearchStrategy[Any]:
    """Values that mostly fit a schema."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind = schema.get("type")
    if kind == "object":
        return _objects(schema, document, depth)
    if kind == "array":
        return st.lists(values(schema["items"], document, depth + 1), max_size=2)
    return _plain_values(schema)


def _plain_values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    if schema.get("type") == "boolean":
        return st.booleans()
    if schema.get("type") in ("integer", "number"):
        return st.integers(schema.get("minimum", 0), min(schema.get("maximum", 100), 100))
    if "pattern" in schema and schema["pattern"].startswith("^-?"):
        return st.sampled_from(["0", "7", "-1"])
    if schema.get("format") == "date-time":
        return st.just("2026-01-01T00:00:00Z")
    if "pattern" in schema:
        return st.one_of(st.from_regex(schema["pattern"].replace("^$|", ""), fullmatch=True), TEXTS)
    return TEXTS


def _objects(schema: dict[str, Any], document: dict[str, Any], depth: int) -> st.SearchStrategy[Any]:
    if depth > 3:
        return st.just({})
    properties = {
        name: values(inner, document, depth + 1) for name, inner in schema.get("properties", {}).items()
    }
    required = {name: properties.pop(name) for name in schema.get("required", ())}
    return st.fixed_dictionaries(required, optional=properties)


def requests(operation: Operation, document: dict[str, Any]) -> st.SearchStrategy[Request]:
    """Requests of an operation: of the right form, with one thing changed, or garbage."""
    in_path = {p["name"]: p["schema"] for p in operation.body.get("parameters", ()) if p["in"] == "path"}
    in_query = {p["name"]: p["schema"] for p in operation.body.get("parameters", ()) if p["in"] == "query"}
    body = operation.body.get("requestBody")

    @st.composite
    def made(draw: st.DrawFn) -> Request:
        path = operation.path
        for name, schema in in_path.items():
            value = draw(st.one_of(st.just(NOBODY), values(schema, document)))
            path = path.replace(f"{{{name}}}", quote(value, safe="") or "-")
        query = {
            name: _plain(draw(values(schema, document)))
            for name, schema in in_query.items()
            if draw(st.booleans())
        }
        if body is None:
            return Request(path, query, None)
        right = draw(values(body["content"]["application/json"]["schema"], document))
        content = draw(st.sampled_from(["right", "right", "right", "changed", "garbage"]))
        if content == "garbage":
            return Request(
                path, query, draw(st.sampled_from([b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"{}{}"]))
            )
        if content == "changed" and right:
            right[draw(st.sampled_from(sorted(right)))] = draw(ANYTHING)
        return Request(path, query, json.dumps(right).encode(errors="replace"))

    return made()


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return str(value[0]) if value else ""
    return str(value).lower() if isinstance(value, bool) else str(value)
