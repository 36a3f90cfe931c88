"""Entries for the audit log, on their way from the service that was called to the router that keeps them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc.aio
import structlog
from google.protobuf.message import Message
from pointsman.router.v1 import audit_service_pb2, audit_service_pb2_grpc

from servicekit.access import CHANGING, Access
from servicekit.background import background
from servicekit.channels import service_channel
from servicekit.context import Call
from servicekit.errors import Failure
from servicekit.interceptors.call_log import Outcome
from servicekit.interceptors.incoming import Incoming
from servicekit.metadata import internal_metadata
from servicekit.metrics import audit_dropped
from servicekit.passport import PassportSigner

Entry = audit_service_pb2.AuditEntry
Deliver = Callable[[Sequence[Entry]], Awaitable[None]]

# A minute of 160 changes a second, while the router is away; about 5 MB.
_QUEUE_LIMIT: Final = 10_000
_BATCH: Final = 500
_DELIVER_SECONDS: Final = 5.0
_LONGEST_PAUSE: Final = 2.0
_CLOSE_SECONDS: Final = 5.0

_log = structlog.get_logger("servicekit.audit")


class AuditTrail:
    """Takes entries without waiting and delivers each, in order, until it arrives.

    `prompts` says whether what was asked is part of an entry. Entries beyond the queue's bound are dropped,
    counted and logged: a lost router must not stop the work.
    """

    def __init__(self, deliver: Deliver, *, prompts: bool = False) -> None:
        self._deliver = deliver
        self._prompts = prompts
        self._queue: asyncio.Queue[Entry] = asyncio.Queue(_QUEUE_LIMIT)
        self._closing = asyncio.Event()

    def note(self, call: Call, outcome: Outcome, incoming: Incoming, access: Access | None) -> None:
        """Add an entry for a call from outside that changed something, or tried to."""
        passport = call.passport
        if access not in CHANGING or passport is None or not call.from_outside:
            return
        entry = Entry(
            tenant=passport.tenant,
            principal=passport.principal,
            credential=passport.credential,
            account=call.log_fields.get("account") or passport.account or "",
            method=call.method,
            resource=_resource(call),
            source_address=incoming.source,
            code=outcome.code.name,
            reason=outcome.reason,
            request_id=call.request_id,
            prompt=_prompt(call.request) if self._prompts else "",
        )
        self.add(entry)

    def add(self, entry: Entry) -> None:
        """Add an entry; it gets its id and time here."""
        entry.id = str(uuid.uuid4())
        entry.create_time.GetCurrentTime()
        try:
            self._queue.put_nowait(entry)
        except asyncio.QueueFull:
            audit_dropped().inc()
            _log.error("audit entry dropped", method=entry.method, request_id=entry.request_id)

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            batch = [await self._queue.get()]
            while len(batch) < _BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            await self._deliver_all(batch)
            for _ in batch:
                self._queue.task_done()

    async def _deliver_each(self, batch: Sequence[Entry]) -> None:
        """Deliver what can be: one entry that nobody takes must not hold up the rest."""
        for entry in batch:
            try:
                await self._deliver([entry])
            except Exception:  # noqa: BLE001 - whatever is wrong with it, it is one entry
                audit_dropped().inc()
                _log.exception("audit entry dropped", method=entry.method, request_id=entry.request_id)

    async def _deliver_all(self, batch: Sequence[Entry]) -> None:
        pause = 0.05
        while True:
            try:
                await self._deliver(batch)
                return
            except (Failure, grpc.aio.AioRpcError) as error:
                if not _passes(error):
                    await self._deliver_each(batch)
                    return
                _log.warning("audit entries wait", count=len(batch), cause=type(error).__name__)
            except Exception:  # noqa: BLE001 - what the database refuses has many types
                await self._deliver_each(batch)
                return
            if await self._is_closing_within(pause):
                # A stop must not hang on a router that is gone.
                _log.error("audit entries lost", count=len(batch))
                return
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _is_closing_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._closing.wait()
        except TimeoutError:
            return False

    async def close(self) -> None:
        """Return when all that was added has arrived, or cannot, or after five seconds."""
        self._closing.set()
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._queue.join()
        except TimeoutError:
            _log.error("audit entries lost", count=self._queue.qsize())


@asynccontextmanager
async def audit_trail(deliver: Deliver, *, prompts: bool = False) -> AsyncIterator[AuditTrail]:
    """Run a trail while inside; on the way out its last entries are delivered, if that is possible."""
    trail = AuditTrail(deliver, prompts=prompts)
    async with background(trail.run()):
        try:
            yield trail
        finally:
            await trail.close()


@asynccontextmanager
async def audit_trail_to_router(address: str, signer: PassportSigner) -> AsyncIterator[AuditTrail]:
    """Run a trail to the router at `address`: what every service but the router itself uses."""
    async with service_channel(address, signer=None) as channel:
        stub = audit_service_pb2_grpc.AuditTrailServiceStub(channel)

        async def deliver(entries: Sequence[Entry]) -> None:
            metadata = internal_metadata(
                signer,
                tenant="system",
                account=None,
                principal=f"service:{signer.issuer}",
                request_id="audit",
            )
            request = audit_service_pb2.RecordEntriesRequest(entries=entries)
            await stub.RecordEntries(request, metadata=metadata, timeout=_DELIVER_SECONDS)

        async with audit_trail(deliver) as trail:
            yield trail


def _passes(error: Failure | grpc.aio.AioRpcError) -> bool:
    """Say whether waiting may help: the store is away, not at odds with an entry."""
    code = error.code if isinstance(error, Failure) else error.code()
    return code in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.CANCELLED,
    )


def _resource(call: Call) -> str:
    """Return what was acted on: what the service says, else what came to be, else what was asked for."""
    said = call.log_fields
    return said.get("resource") or said.get("turn") or _asked_for(call.request) or said.get("session", "")


def _asked_for(request: Any) -> str:
    if not isinstance(request, Message):
        return ""
    fields = request.DESCRIPTOR.fields_by_name
    for name in ("name", "turn", "session"):
        if name in fields:
            value = getattr(request, name)
            found = value if isinstance(value, str) else str(getattr(value, "name", ""))
            if found:
                return found
    return ""


def _prompt(request: Any) -> str:
    return next(
        (str(getattr(request, name)) for name in ("prompt", "query", "message") if hasattr(request, name)), ""
    )
