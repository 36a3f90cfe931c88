"""How many snapshots a session and a tenant may have, and how many bytes in them.

Counted are the snapshots that callers make, by `size_bytes`; of a tenant the files of its templates, too.
What turns leave to be forked from is limited by its number alone, see `POINTSMAN_FORKABLE_TURNS`.
"""

from __future__ import annotations

from dataclasses import dataclass

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from session.storage.statements import snapshots
from session.storage.statements.snapshots import Total
from session.storage.transaction import Transaction


@dataclass(frozen=True)
class SnapshotLimits:
    """What all snapshots of one session, and of one tenant, may come to."""

    session: Total
    tenant: Total

    async def room(self, tx: Transaction, tenant: str, session_id: str = "") -> int:
        """Return the bytes that one more may have, in a session if it is given. Failure SNAPSHOT_LIMIT."""
        left = _left("tenant", await snapshots.total_of_tenant(tx, tenant), self.tenant)
        if session_id:
            used = await snapshots.total_of_session(tx, session_id)
            left = min(left, _left("session", used, self.session))
        return left

    async def take(self, tx: Transaction, tenant: str, session_id: str, size_bytes: int) -> None:
        """Make sure that one more fits, now that its size is known. Failure SNAPSHOT_LIMIT.

        Under `lock_tenant`, so that two at once do not both get the last place.
        """
        left = await self.room(tx, tenant, session_id)
        if size_bytes > left:
            raise Failure(
                errors_pb2.ERROR_REASON_SNAPSHOT_LIMIT,
                f"The snapshot has {size_bytes} bytes, and {left} are left. Delete another one "
                "(DeleteSnapshot), then try again.",
                limit=str(left),
            )


def _left(scope: str, used: Total, limit: Total) -> int:
    both = (("snapshots", used.count, limit.count), ("bytes in snapshots", used.bytes, limit.bytes))
    for what, have, may in both:
        if have >= may:
            raise Failure(
                errors_pb2.ERROR_REASON_SNAPSHOT_LIMIT,
                f"The {scope} has {have} {what} and may have {may}. Delete one (DeleteSnapshot), then try "
                "again.",
                scope=scope,
                limit=str(may),
            )
    return limit.bytes - used.bytes
