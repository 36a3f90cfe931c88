"""The failure of a request's field."""

from __future__ import annotations

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure


def invalid(name: str, complaint: str) -> Failure:
    """Return the failure for a field that breaks its rule."""
    return Failure(errors_pb2.ERROR_REASON_INVALID_FIELD, f"{name}: {complaint}", fields=[(name, complaint)])
