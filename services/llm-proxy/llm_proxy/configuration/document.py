"""A YAML file that remembers on which line each value stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from servicekit.config import ConfigError

VARIABLE = "POINTSMAN_LLM_CONFIG"

Place = tuple[str | int, ...]
"""Where a value is: `("model_list", 0, "model_name")`."""


class Document:
    """The file's data, and lines for messages about it."""

    def __init__(self, path: Path, data: Mapping[str, Any], root: yaml.Node) -> None:
        self.path = path
        self.data = data
        self._root = root

    def error(self, place: Place, complaint: str) -> ConfigError:
        """Return an error that names the file, the line of the nearest value that exists, and the setting."""
        name = ".".join(str(part) for part in place)
        return ConfigError(f"{VARIABLE}: {self.path}:{self.line(place)}: {name}: {complaint}")

    def line(self, place: Place) -> int:
        """Return the line of a value, from 1, or of the nearest one around it."""
        node = self._root
        line = node.start_mark.line
        for part in place:
            found = _child(node, part)
            if found is None:
                break
            line, node = found
        return int(line) + 1


def _child(node: yaml.Node, part: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key.start_mark.line, value
    elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        value = node.value[part]
        return value.start_mark.line, value
    return None


def read_document(path: Path) -> Document:
    """Read a file whose top is a mapping. Raises ConfigError."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{VARIABLE}: cannot read {path}: {error}; it is a YAML file") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{VARIABLE}: {path}:{line}: not YAML: {error.problem}") from None
    except (yaml.YAMLError, RecursionError):
        raise ConfigError(f"{VARIABLE}: {path}: not YAML") from None
    if root is None or not isinstance(data, dict):
        raise ConfigError(f"{VARIABLE}: {path}:1: must be a mapping with the key model_list")
    return Document(path, data, root)


def expect(document: Document, place: Place, value: Any, kind: type | tuple[type, ...], what: str) -> Any:
    """Return the value when it is of the kind; else raise ConfigError `must be <what>`."""
    if isinstance(value, bool) and kind is not bool and kind != (bool,):
        raise document.error(place, f"must be {what}")
    if not isinstance(value, kind):
        raise document.error(place, f"must be {what}")
    return value


def mappings(document: Document, place: Place, value: Any) -> Sequence[tuple[str, Any]]:
    """Return the items of a mapping with text keys; None counts as empty."""
    if value is None:
        return ()
    expect(document, place, value, dict, "a mapping")
    return [(str(key), item) for key, item in value.items()]
