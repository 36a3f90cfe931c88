"""Schemas that a turn's answer has to fit: which are accepted, and whether an answer fits.

Schemas and answers come from outside. So references stay inside of the schema and do not recur, regular
expressions take linear time (no lookaround, no backreferences), and the size has a bound.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote

import jsonschema_rs
from pointsman.errors.v1 import errors_pb2

from servicekit.errors import Failure

FIELD: Final = "options.output_schema"
_BYTES: Final = 128 * 1024 - 1
"""As JSON: it is an argument of a program."""
_DEPTH: Final = 100
_PARTS: Final = 10_000
"""Objects and lists of a schema, each counted as often as it is referred to."""
_PATTERN_BYTES: Final = 1024 * 1024
_NOT_SUPPORTED: Final = frozenset(
    {"$anchor", "$dynamicAnchor", "$dynamicRef", "$id", "$recursiveAnchor", "$recursiveRef"}
)
_FAULT_CHARACTERS: Final = 500


def check_schema(schema: dict[str, Any]) -> None:
    """Raise Failure INVALID_FIELD for a schema that is invalid, too large, or that no answer can fit."""
    if schema.get("type") != "object":
        raise _invalid("", 'must have "type": "object" at its root, as the answer is an object')
    if len(json.dumps(schema).encode()) > _BYTES:
        raise _invalid("", f"must be at most {_BYTES} bytes as JSON")
    _Size(schema).of(schema, ())
    try:
        _validator(schema)
    except ValueError as error:
        raise _invalid(_place(getattr(error, "instance_path", [])), _fault(error)) from error


def fault_of(schema: dict[str, Any], answer: object) -> str:
    """Return what of an answer does not fit, and where; '' when it fits. The schema was checked before."""
    for error in _validator(schema).iter_errors(answer):
        return f"at {_place(error.instance_path) or 'the root'}: {_fault(error)}"
    return ""


def _validator(schema: dict[str, Any]) -> Any:
    patterns = jsonschema_rs.RegexOptions(size_limit=_PATTERN_BYTES, dfa_size_limit=_PATTERN_BYTES)
    return jsonschema_rs.Draft202012Validator(schema, pattern_options=patterns, offline=True)


class _Size:
    """Counts the parts of a schema with its references followed, and refuses what has no bound."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._known: dict[int, int] = {}
        self._open: set[int] = set()

    def of(self, node: Any, path: tuple[object, ...]) -> int:
        """Return the parts of a node at a place."""
        if not isinstance(node, dict | list):
            return 0
        if id(node) in self._open:
            raise _invalid(_place(path), "must not refer to itself")
        if id(node) in self._known:
            return self._known[id(node)]
        if len(path) > _DEPTH:
            raise _invalid(_place(path), f"must not nest deeper than {_DEPTH} levels, references included")
        self._open.add(id(node))
        children = enumerate(node) if isinstance(node, list) else self._children(node, path)
        parts = 1 + sum(self.of(child, (*path, word)) for word, child in children)
        self._open.discard(id(node))
        if parts > _PARTS:
            raise _invalid(_place(path), f"must have at most {_PARTS} parts, with its references followed")
        self._known[id(node)] = parts
        return parts

    def _children(self, node: dict[str, Any], path: tuple[object, ...]) -> Iterator[tuple[object, Any]]:
        for word, child in node.items():
            if isinstance(child, str) and word in _NOT_SUPPORTED:
                raise _invalid(_place((*path, word)), "is not supported; use $ref with #/$defs/NAME")
            yield word, self._target(child, (*path, word)) if _is_reference(word, child) else child

    def _target(self, reference: str, path: tuple[object, ...]) -> Any:
        found: Any = self._root
        steps = unquote(reference[1:]).split("/")
        if not reference.startswith("#") or steps[0]:
            raise _invalid(_place(path), "must refer to a part of this schema, such as #/$defs/NAME")
        for step in steps[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            found = found.get(name) if isinstance(found, dict) else None
        if found is None:
            raise _invalid(_place(path), f"there is no {reference[:100]} in this schema")
        return found


def _is_reference(word: str, child: Any) -> bool:
    return word == "$ref" and isinstance(child, str)


def _place(path: Any) -> str:
    return ".".join(str(part)[:100] for part in list(path)[:_DEPTH])


def _fault(error: Exception) -> str:
    return str(getattr(error, "message", error))[:_FAULT_CHARACTERS]


def _invalid(place: str, rule: str) -> Failure:
    field = f"{FIELD}.{place}" if place else FIELD
    return Failure(errors_pb2.ERROR_REASON_INVALID_FIELD, f"{field}: {rule}", fields=[(field, rule)])
