"""Which hosts agents may reach: what the operator lists, and of that what a session asks for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

_WEB_PORTS: Final = frozenset({80, 443})


@dataclass(frozen=True)
class _Entry:
    name: str
    ports: frozenset[int]


class EgressList:
    """The operator's list. An entry is `host`, or `*.host` for all below it, on 80 and 443; `host:port` is on
    that port alone."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._entries = [_entry(entry.strip().lower()) for entry in entries if entry.strip()]

    @classmethod
    def parse(cls, text: str) -> EgressList:
        """Read a list with commas, '' for nothing."""
        return cls(text.split(","))

    def check(self, hosts: Iterable[str]) -> None:
        """Raise Failure EGRESS_NOT_ALLOWED when a session asks for more than is listed."""
        for host in hosts:
            if not any(_covers(entry.name, host) for entry in self._entries):
                listed = ", ".join(sorted({entry.name for entry in self._entries})) or "none"
                raise Failure(
                    errors_pb2.ERROR_REASON_EGRESS_NOT_ALLOWED,
                    f"Agents of this installation may not reach {host[:256]}; it allows: {listed[:1024]}. "
                    "Take the host out of the session's egress_hosts, or ask the operator to list it.",
                    host=host[:256],
                )

    def allows(self, host: str, port: int) -> bool:
        """Return whether a host may be reached on a port."""
        return any(port in entry.ports and matches(entry.name, host) for entry in self._entries)


def matches(name: str, host: str) -> bool:
    """Return whether a host is what a name stands for. Whole parts count: `*.a.b` is not `evila.b`."""
    return host == name or (name.startswith("*.") and host.endswith(name[1:]))


def allows(names: Sequence[str], host: str) -> bool:
    """Return whether a host is what one of the names stands for."""
    return any(matches(name, host) for name in names)


def _covers(entry: str, asked: str) -> bool:
    """Return whether all that is asked for, a host or `*.host`, is what an entry stands for."""
    if not asked.startswith("*."):
        return matches(entry, asked)
    return entry.startswith("*.") and asked[1:].endswith(entry[1:])


def _entry(text: str) -> _Entry:
    name, _, port = text.partition(":")
    return _Entry(name, frozenset({int(port)}) if port else _WEB_PORTS)
