"""Lists of tools on the command line of Claude Code.

The CLI joins all that it is given and separates it at commas and blanks outside parentheses, where any
`)` closes whatever is open; there is no escape (the CLI's `--help`, and the SDK's check of skill names). So
an item that has such a place in it would be several.
"""

from __future__ import annotations

from collections.abc import Sequence

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

RULE = (
    "must be one tool or one rule, such as Read, mcp__docs__search or Bash(git log:*); give several tools as "
    "several items"
)


def joined(items: Sequence[str], field: str) -> str:
    """Return the items as one argument. Raises Failure INVALID_FIELD unless the CLI reads back just these.

    The proto's rule refuses such items first. This is where the argument is made, from whatever was stored
    before there was a rule.
    """
    for index, item in enumerate(items):
        if split(item) != [item] or not item.isprintable():
            path = f"{field}[{index}]"
            raise Failure(
                errors_pb2.ERROR_REASON_INVALID_FIELD,
                f"{path}: {item[:64]!r} {RULE}",
                fields=[(path, RULE)],
            )
    return ",".join(items)


def split(argument: str) -> list[str]:
    """Return what the CLI makes of an argument."""
    items, item, inside = [], "", False
    for sign in argument:
        if sign in "()":
            inside = sign == "("
        if sign in ", " and not inside:
            items.append(item.strip())
            item = ""
        else:
            item += sign
    return [part for part in (*items, item.strip()) if part]
