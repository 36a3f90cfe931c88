"""A call as it arrives, before anything about it is believed."""

from __future__ import annotations

from dataclasses import dataclass

from pointsman.errors.v1 import errors_pb2

from servicekit.errors import Failure
from servicekit.limits import METADATA_LIMIT


@dataclass(frozen=True)
class Incoming:
    """The method's full name, `/package.Service/Method`, and the metadata."""

    path: str
    metadata: tuple[tuple[str, str | bytes], ...]

    @property
    def method(self) -> str:
        """The method as it is written in logs and messages, `package.Service/Method`."""
        return self.path[1:]

    def values(self, name: str) -> list[str]:
        """Return all values of a header; one that came twice gives two."""
        return [value for key, value in self.metadata if key == name and isinstance(value, str)]

    def check_size(self) -> None:
        """Raise Failure MESSAGE_TOO_LARGE when the metadata is over its limit."""
        size = sum(len(key) + len(value) for key, value in self.metadata)
        if size > METADATA_LIMIT:
            raise Failure(
                errors_pb2.ERROR_REASON_MESSAGE_TOO_LARGE,
                f"The call's metadata has {size} bytes; at most {METADATA_LIMIT} are taken.",
                limit=str(METADATA_LIMIT),
            )
