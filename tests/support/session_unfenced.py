"""The session service with its fence taken out: what the checker of the chaos tests must notice.

`python -m support.session_unfenced` is `python -m session`, but an owner's writes do not look at the epoch.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from servicekit.serving import run_service
from session.app import app
from session.config import SessionConfig
from session.store import claims
from session.tables import turns


async def unfenced_write(
    tx: Any, turn_id: str, _epoch: int, *, state: int, index: int, values: dict[str, Any]
) -> bool:
    statement = sa.update(turns).where(turns.c.id == turn_id).values(values)
    return bool((await tx.execute(statement)).rowcount)


if __name__ == "__main__":
    claims.write = unfenced_write
    run_service("session", SessionConfig, app)
