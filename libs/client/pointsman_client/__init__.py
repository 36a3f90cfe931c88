"""Pointsman's Python client.

    async with AsyncClient("http://localhost:8080", key) as client:
        async for event in client.run_turn("Create hello.py and run it"):
            ...

`Client` is the same without `async`. Events, turns and sessions are the contract's own messages, from
`pointsman.session.v1`. What fails raises a `PointsmanError`, of the class that says which kind of failure.
"""

from pointsman_client.client import AsyncClient
from pointsman_client.errors import (
    Cancelled,
    Conflict,
    Internal,
    InvalidRequest,
    LimitReached,
    NotFound,
    PermissionDenied,
    PointsmanError,
    TimedOut,
    TurnFailed,
    Unauthenticated,
    Unavailable,
)
from pointsman_client.sync import Client

__all__ = [
    "AsyncClient",
    "Cancelled",
    "Client",
    "Conflict",
    "Internal",
    "InvalidRequest",
    "LimitReached",
    "NotFound",
    "PermissionDenied",
    "PointsmanError",
    "TimedOut",
    "TurnFailed",
    "Unauthenticated",
    "Unavailable",
]
