"""Which session a caller means that does not name one by its UUID."""

from __future__ import annotations

import uuid
from typing import Final

from pointsman.router.v1 import router_service_pb2
from servicekit.context import account_of, current_passport

from router.requests import check_label, session_named
from router.turns import Turns

# Any fixed UUID does; changing it would give every label a new session.
_LABELS: Final = uuid.UUID("8a5e7f3c-52c1-4f0e-9d5b-0a1c6f1c9e77")


class Conversations:
    """Finds or makes sessions."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    async def named_by(self, request: router_service_pb2.RunAgentRequest) -> str:
        """Return the session that a run names, by its UUID or by a name of the caller's own; else empty."""
        given = request.session_id or request.resume_session_id
        if not given:
            return ""
        return session_named(given) or await self._labelled(account_of(request.account_id), given)

    async def _labelled(self, account: str, label: str) -> str:
        """Return the session that this caller's own name stands for; the first use makes it."""
        check_label(label)
        tenant = current_passport().tenant
        request_id = uuid.uuid5(_LABELS, f"{tenant}/{account}/{label}")
        return await self._turns.create_session(account, request_id=str(request_id), title=label)
