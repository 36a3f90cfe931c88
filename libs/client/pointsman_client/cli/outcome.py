"""Exit codes, and what is said when a command fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import typer

from pointsman_client import errors
from pointsman_client.cli.settings import State

TURN_FAILED: Final = 1
"""The turn ended without success."""
_CODES: Final = {
    errors.InvalidRequest: 2,
    errors.Unauthenticated: 3,
    errors.PermissionDenied: 3,
    errors.NotFound: 4,
    errors.Conflict: 4,
    errors.LimitReached: 5,
    errors.Unavailable: 6,
    errors.TimedOut: 6,
    errors.Internal: 7,
    errors.TurnFailed: TURN_FAILED,
    errors.Cancelled: TURN_FAILED,
}
_ADVICE: Final = {
    "CREDENTIAL_MISSING": "Give the key with --key or in POINTSMAN_API_KEY; `make run` prints it.",
    "": "Is the installation running, and is this its address? Try: pointsman doctor",
}
INTERRUPTED: Final = 130


@contextmanager
def failures_told(state: State) -> Iterator[None]:
    """Turn our exceptions into a line on stderr and the exit code that belongs to it."""
    try:
        yield
    except errors.PointsmanError as error:
        name = f"{error.reason}: " if error.reason else ""
        state.err.print(f"[red]{name}[/red]", end="", highlight=False)
        state.err.print(error.message, markup=False, highlight=False)
        advice = _ADVICE.get(error.reason)
        if advice and (error.reason or isinstance(error, errors.Unavailable)):
            state.err.print(advice, style="dim", highlight=False)
        if error.request_id:
            state.err.print(f"request id {error.request_id}", style="dim", highlight=False)
        raise typer.Exit(_CODES.get(type(error), 7)) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
