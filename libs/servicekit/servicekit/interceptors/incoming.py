"""A call as it arrives, before anything about it is believed."""

from __future__ import annotations

from dataclasses import dataclass

from pointsman.errors.v1 import errors_pb2

from servicekit.errors import Failure
from servicekit.limits import METADATA_LIMIT


@dataclass(frozen=True)
class Incoming:
    """The method's full name, `/package.Service/Method`, the metadata, and who is at the connection's end."""

    path: str
    metadata: tuple[tuple[str, str | bytes], ...]
    peer: str = ""

    @property
    def method(self) -> str:
        """The method as it is written in logs and messages, `package.Service/Method`.

        A query, which no method has, may hold a key that somebody puts into a URL.
        """
        return self.path[1:].partition("?")[0]

    def values(self, name: str) -> list[str]:
        """Return all values of a header; one that came twice gives two."""
        return [value for key, value in self.metadata if key == name and isinstance(value, str)]

    @property
    def source(self) -> str:
        """The client's address as the edge saw it; the peer's own where no edge was passed."""
        seen = self.values("x-envoy-external-address") or self.values("x-forwarded-for")
        return seen[-1].rpartition(",")[2].strip() if seen else self.peer.partition(":")[2].rpartition(":")[0]

    def check_size(self) -> None:
        """Raise Failure MESSAGE_TOO_LARGE when the metadata is over its limit."""
        size = sum(len(key) + len(value) for key, value in self.metadata)
        if size > METADATA_LIMIT:
            raise Failure(
                errors_pb2.ERROR_REASON_MESSAGE_TOO_LARGE,
                f"The call's metadata has {size} bytes; at most {METADATA_LIMIT} are taken.",
                limit=str(METADATA_LIMIT),
            )
