"""Which `Host` an HTTP endpoint answers for, so that a web page cannot reach it under a name of its own.

A page may point its own domain at 127.0.0.1 (DNS rebinding). The browser then treats our endpoint as part of
that page, but it still sends the page's domain as `Host`. Addresses and names that no public DNS can hold are
therefore safe; every other name has to be configured.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

from pointsman.errors.v1 import errors_pb2

from servicekit.errors import Failure

_HOST: Final = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]{1,253})(:[0-9]{1,5})?")
# Kubernetes' own names for services and pods, and names that resolvers answer with loopback.
_PRIVATE_SUFFIXES: Final = (".svc", ".cluster.local", ".localhost")


class AllowedHosts:
    """The hosts of one endpoint. `names` are those that an operator configured beside the private ones."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        listed = [name.strip().lower() for name in names if name.strip()]
        self._names = frozenset(name for name in listed if not name.startswith("*."))
        self._suffixes = (*_PRIVATE_SUFFIXES, *(name[1:] for name in listed if name.startswith("*.")))

    @classmethod
    def parse(cls, text: str) -> AllowedHosts:
        """Read a comma-separated list of names; `*.example.org` stands for all below it; empty for none."""
        return cls(text.split(","))

    def allows(self, host: str) -> bool:
        """Return whether a `Host` header's value, with or without a port, may be answered."""
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match["name"].strip("[]").lower().removesuffix(".")
        # A name without a dot is a service of a container network: public DNS has none.
        if name in self._names or name.endswith(self._suffixes):
            return True
        return _is_address(name) or ("." not in name and ":" not in name and bool(name))

    def check(self, host: str) -> None:
        """Raise Failure HOST_NOT_ALLOWED for a host that is not allowed."""
        if not self.allows(host):
            raise Failure(
                errors_pb2.ERROR_REASON_HOST_NOT_ALLOWED,
                f"This endpoint does not answer for the host {host[:256]!a}. Use localhost, an IP address or "
                "the service's name, or ask the operator to add the name to POINTSMAN_PUBLIC_HOSTS.",
                host=host[:256],
            )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
