"""Methods with `google.api.http` as OpenAPI operations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from openapi.rules import constraints
from openapi.schemas import Schema, Schemas

_VARIABLE: Final = re.compile(r"\{([a-z_.]+)(?:=([^}]+))?\}")
_UUID: Final = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_SEGMENTS: Final[Mapping[str, str]] = {"sessions": _UUID, "turns": _UUID, "keys": "[a-z0-9]{1,32}"}
# Messages that are one text in JSON.
_TEXTS: Final = (
    "google.protobuf.Timestamp",
    "google.protobuf.Duration",
    "google.protobuf.FieldMask",
)


@dataclass(frozen=True)
class Operation:
    """One operation at its place in the document."""

    path: str
    verb: str
    body: Schema


def operations(
    method: MethodDescriptor, schemas: Schemas, comments: Mapping[str, str]
) -> Iterator[Operation]:
    """Yield the operations of a method; none for one without HTTP."""
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern")
    if not verb:
        return
    path, parameters, bound = _path(getattr(rule, verb))
    operation: dict[str, Any] = {
        "operationId": f"{method.containing_service.name}.{method.name}",
        "tags": [method.containing_service.name],
        "description": comments.get(method.full_name, ""),
    }
    if rule.body:
        operation["requestBody"] = _request(method.input_type, rule.body, bound, schemas)
    if rule.body != "*":
        # What is neither in the path nor in the body.
        parameters += _query(method.input_type, bound | {rule.body}, schemas)
    if parameters:
        operation["parameters"] = parameters
    operation["responses"] = {
        "200": _answer(method, schemas),
        "default": {"$ref": "#/components/responses/Error"},
    }
    yield Operation(path, verb, operation)


def _path(template: str) -> tuple[str, list[Schema], frozenset[str]]:
    """Return OpenAPI's path, its parameters, and the request's fields that it fills.

    `/v1/{name=sessions/*/turns/*}:cancel` is `/v1/sessions/{session}/turns/{turn}:cancel`.
    """
    parameters: list[Schema] = []
    bound: list[str] = []

    def named(match: re.Match[str]) -> str:
        field, pattern = match[1], match[2] or "*"
        bound.append(field)
        if pattern == "**":
            parameters.append(_parameter(field, {"type": "string", "minLength": 1}))
            return f"{{{field}}}"
        parts = pattern.split("/")
        for index, part in enumerate(parts):
            if part == "*":
                collection = parts[index - 1]
                name = collection.removesuffix("s")
                one = _SEGMENTS.get(collection, "[^/]+")
                parameters.append(_parameter(name, {"type": "string", "pattern": f"^{one}$"}))
                parts[index] = f"{{{name}}}"
        return "/".join(parts)

    return _VARIABLE.sub(named, template), parameters, frozenset(bound)


def _parameter(name: str, schema: Schema) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _request(message: Descriptor, body: str, bound: frozenset[str], schemas: Schemas) -> Schema:
    if body != "*":
        schema = schemas.field(message.fields_by_name[body])
    elif bound:
        schema = schemas.body(message, bound)
    else:
        schema = schemas.message(message)
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _query(message: Descriptor, bound: frozenset[str], schemas: Schemas, prefix: str = "") -> list[Schema]:
    """Return a query parameter for each field that is not in the path; those of messages with a dot."""
    found: list[Schema] = []
    for field in message.fields:
        name = prefix + field.json_name
        if field.name in bound:
            continue
        if _is_plain(field):
            schema = {**schemas.field(field), **constraints(field)}
            description = schema.pop("description", "")
            found.append({"name": name, "in": "query", "description": description, "schema": schema})
        elif field.message_type is not None and not field.is_repeated:
            found += _query(field.message_type, frozenset(), schemas, f"{name}.")
    return found


def _is_plain(field: FieldDescriptor) -> bool:
    return field.message_type is None or field.message_type.full_name in _TEXTS


def _answer(method: MethodDescriptor, schemas: Schemas) -> Schema:
    schema = schemas.message(method.output_type)
    one, lines = {"application/json": {"schema": schema}}, {"application/x-ndjson": {"schema": schema}}
    if not method.server_streaming:
        return {"description": "Done.", "content": one}
    # Whoever can ask for no stream gets one object.
    choice = one if "stream" in method.input_type.fields_by_name else {}
    return {
        "description": "One JSON object a line, or server-sent events where they are accepted. A stream that "
        "ends early ends with an item that has `error`, where the items can have one.",
        "content": {**lines, "text/event-stream": {"schema": schema}, **choice},
    }
