"""The session service with its fence taken out: what the checker of the chaos tests must notice.

`python -m support.session_unfenced` is `python -m session`, but who writes is taken for the owner.
"""

from __future__ import annotations

from servicekit.serving import run_service
from session.app import app
from session.config import SessionConfig
from session.events.append import Append, Batch

fenced = Batch.add


def unfenced(self: Batch, append: Append) -> None:
    held = self._held[append.turn_id]
    held.epoch, held.state, held.runner_index = append.epoch, append.state, 0
    fenced(self, append)


if __name__ == "__main__":
    Batch.add = unfenced  # type: ignore[method-assign]
    run_service("session", SessionConfig, app)
