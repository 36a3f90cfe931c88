"""Values that fit a JSON schema: for tools that a request forces, and for structured answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

# Schemas that refer to themselves end here.
_DEPTH_LIMIT: Final = 8


def fitting(schema: Mapping[str, Any], answer: str, depth: int = 0) -> Any:  # noqa: PLR0911 - one a type
    """Return a value of the schema's shape with the answer in its texts, or its number where it is one."""
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return _choice(schema["enum"], answer)
    for word in ("anyOf", "oneOf", "allOf"):
        if schema.get(word):
            return fitting(schema[word][0], answer, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0]
    match kind:
        case "object" if depth < _DEPTH_LIMIT:
            required = schema.get("required", list(schema.get("properties", {})))
            properties = schema.get("properties", {})
            return {name: fitting(properties.get(name, {}), answer, depth + 1) for name in required}
        case "array" if depth < _DEPTH_LIMIT:
            count = max(int(schema.get("minItems", 0)), 0)
            return [fitting(schema.get("items", {}), answer, depth + 1) for _ in range(min(count, 100))]
        case "integer" | "number":
            return _number(schema, answer, whole=kind == "integer")
        case "boolean":
            return answer.strip().lower() in ("yes", "true")
        case "null":
            return None
    return answer


def _choice(values: list[Any], answer: str) -> Any:
    words = answer.lower()
    return next((value for value in values if str(value).lower() in words), values[0])


def _number(schema: Mapping[str, Any], answer: str, *, whole: bool) -> int | float:
    try:
        value = float(answer)
    except ValueError:
        value = float(schema.get("minimum", 0))
    return int(value) if whole or value == int(value) else value
