"""Validation rules of fields, as JSON Schema says them. What it cannot say stays the server's to check."""

from __future__ import annotations

import re
from typing import Any, Final

from buf.validate import validate_pb2
from google.protobuf.descriptor import FieldDescriptor

# How our protos write patterns: with or without the empty text.
_MATCHES: Final = re.compile(r"^(this == '' \|\| )?this\.matches\('(?P<pattern>.*)'\)$")
_UUID: Final = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
_BOUNDS: Final = {"gte": "minimum", "lte": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}


def rules_of(field: FieldDescriptor) -> Any:
    """Return the field's rules, empty ones where there are none."""
    return field.GetOptions().Extensions[validate_pb2.field]


def is_required(field: FieldDescriptor) -> bool:
    """Whether a request without it is refused."""
    rules = rules_of(field)
    if rules.required:
        return True
    kind = rules.WhichOneof("type")
    if kind == "string":
        return bool(rules.string.min_len)
    return kind == "enum" and 0 in rules.enum.not_in


def constraints(field: FieldDescriptor) -> dict[str, Any]:
    """Return the keywords for a field's value, or for the list or map that it is."""
    rules = rules_of(field)
    found: dict[str, Any] = {}
    kind = rules.WhichOneof("type")
    if kind == "string":
        found |= _text(rules.string, optional=rules.ignore != 0)
    elif kind == "repeated":
        found |= _count(rules.repeated, "Items", "items")
        if rules.repeated.unique:
            found["uniqueItems"] = True
    elif kind == "map":
        found |= _count(rules.map, "Properties", "pairs")
    elif kind in ("int32", "double"):
        found |= _number(getattr(rules, kind))
    for rule in rules.cel:
        match = _MATCHES.match(rule.expression)
        if match is not None:
            pattern = match["pattern"].replace("\\\\", "\\")
            found["pattern"] = f"^$|{pattern}" if match[1] else pattern
    return found


def item_constraints(field: FieldDescriptor) -> dict[str, Any]:
    """Return the keywords for each item of a list."""
    items = rules_of(field).repeated.items
    return _text(items.string, optional=False) if items.WhichOneof("type") == "string" else {}


def _text(rules: Any, *, optional: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if rules.min_len:
        found["minLength"] = rules.min_len
    # A limit in bytes is one in characters, too.
    longest = rules.max_len or rules.max_bytes
    if longest:
        found["maxLength"] = longest
    if rules.pattern:
        found["pattern"] = rules.pattern
    if rules.uuid:
        found["pattern"] = f"^$|{_UUID}" if optional else _UUID
    if len(getattr(rules, "in")):
        found["enum"] = list(getattr(rules, "in"))
    return found


def _count(rules: Any, keyword: str, name: str) -> dict[str, Any]:
    found = {}
    for side in ("min", "max"):
        value = getattr(rules, f"{side}_{name}")
        if value:
            found[f"{side}{keyword}"] = value
    return found


def _number(rules: Any) -> dict[str, Any]:
    bounds = {"greater_than": rules.WhichOneof("greater_than"), "less_than": rules.WhichOneof("less_than")}
    return {_BOUNDS[name]: getattr(rules, name) for name in bounds.values() if name}
