"""Messages as JSON Schema, in protobuf's JSON mapping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from openapi.rules import constraints, is_required, item_constraints

Schema = dict[str, Any]

_INTEGER_TEXT: Final = {"type": "string", "pattern": "^-?[0-9]+$"}
_SCALARS: Final[Mapping[int, Schema]] = {
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number"},
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_UINT32: {"type": "integer", "minimum": 0},
    # JavaScript's numbers end at 2^53.
    FieldDescriptor.TYPE_INT64: _INTEGER_TEXT,
    FieldDescriptor.TYPE_UINT64: _INTEGER_TEXT,
}
_WELL_KNOWN: Final[Mapping[str, Schema]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"},
    "google.protobuf.FieldMask": {"type": "string"},
    "google.protobuf.Struct": {"type": "object"},
}


class Schemas:
    """Collects the schemas of the messages and enums that are asked for, and of those within them."""

    def __init__(self, comments: Mapping[str, str]) -> None:
        self._comments = comments
        self.collected: dict[str, Schema] = {}

    def message(self, message: Descriptor) -> Schema:
        """Return a reference to a message's schema, or the schema of a well-known type."""
        known = _WELL_KNOWN.get(message.full_name)
        if known is not None:
            return dict(known)
        name = message.full_name
        if name not in self.collected:
            # Named before it is made, because messages may hold themselves.
            self.collected[name] = {}
            self.collected[name] = self.body(message, frozenset())
        return {"$ref": f"#/components/schemas/{name}"}

    def body(self, message: Descriptor, without: frozenset[str]) -> Schema:
        """Return a message's schema without some of its fields, which come in the path."""
        fields = [field for field in message.fields if field.name not in without]
        schema: Schema = {
            "type": "object",
            "properties": {field.json_name: self.field(field) for field in fields},
        }
        required = [field.json_name for field in fields if is_required(field)]
        if required:
            schema["required"] = required
        return self._described(schema, message.full_name)

    def field(self, field: FieldDescriptor) -> Schema:
        """Return the schema of a field, with its rules."""
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value = self._single(field.message_type.fields_by_name["value"])
            schema: Schema = {"type": "object", "additionalProperties": value, **constraints(field)}
        elif field.is_repeated:
            items = {**self._single(field), **item_constraints(field)}
            schema = {"type": "array", "items": items, **constraints(field)}
        else:
            schema = {**self._single(field), **constraints(field)}
        return self._described(schema, field.full_name)

    def _single(self, field: FieldDescriptor) -> Schema:
        if field.message_type is not None:
            return self.message(field.message_type)
        if field.enum_type is not None:
            return self._enum(field.enum_type)
        return dict(_SCALARS[field.type])

    def _enum(self, enum: EnumDescriptor) -> Schema:
        if enum.full_name not in self.collected:
            lines = [
                f"- `{value.name}`: {self._comments.get(f'{enum.full_name}.{value.name}', '')}"
                for value in enum.values
            ]
            self.collected[enum.full_name] = {
                "type": "string",
                "enum": [value.name for value in enum.values],
                "description": "\n".join([self._comments.get(enum.full_name, ""), *lines]).strip(),
            }
        return {"$ref": f"#/components/schemas/{enum.full_name}"}

    def _described(self, schema: Schema, name: str) -> Schema:
        if name in self._comments:
            schema["description"] = self._comments[name]
        return schema
