"""The session service, put together."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa
from pointsman.session.v1 import (
    account_service_pb2,
    account_service_pb2_grpc,
    session_service_pb2,
    session_service_pb2_grpc,
    template_service_pb2,
    template_service_pb2_grpc,
    transcript_service_pb2,
    transcript_service_pb2_grpc,
    turn_service_pb2,
    turn_service_pb2_grpc,
    workspace_service_pb2,
    workspace_service_pb2_grpc,
)
from servicekit.audit import audit_trail_to_router
from servicekit.background import background
from servicekit.channels import service_channel
from servicekit.diagnostics import diagnostics
from servicekit.drain import Drain
from servicekit.passport import PassportSigner, PassportVerifier
from servicekit.serving import RunningServer, Servicer, serving

from session.config import SessionConfig
from session.events.bus import Bus, Topic
from session.events.hub import Hub
from session.events.log import Log
from session.events.retention import Retention
from session.events.watch import Watch
from session.models import ModelNames
from session.peers import Models, Runner
from session.permissions import Permissions
from session.queue.claim import Claims
from session.queue.edit import Editor
from session.queue.enqueue import Queue
from session.queue.positions import Positions
from session.queue.turns import Turns
from session.runs.dispatch import Dispatcher
from session.runs.run import Runs
from session.servicers.account import AccountServicer
from session.servicers.session import SessionServicer
from session.servicers.template import TemplateServicer
from session.servicers.transcript import TranscriptServicer
from session.servicers.turn import TurnServicer
from session.servicers.workspace import WorkspaceServicer
from session.sessions.accounts import Accounts
from session.sessions.deletion import Deletion
from session.sessions.files import Files
from session.sessions.filling import Filler
from session.sessions.fork import Forks
from session.sessions.prepare import Preparer
from session.sessions.sandboxes import Sandboxes
from session.sessions.sessions import Sessions
from session.sessions.snapshot_limits import SnapshotLimits
from session.sessions.snapshots import Snapshots
from session.sessions.templates import Templates
from session.sessions.transcripts import Transcripts
from session.storage.database import Database, opened
from session.storage.file_lock import only_owner
from session.storage.migrations.upgrade import upgrade
from session.storage.statements.snapshots import Total

# Turns that only we can finish, and those of a runner that stops with us, have this long to end after the
# request to stop: as long as the runner takes, which then tells how the others ended.
_GRACE_SECONDS = 10.0


@asynccontextmanager
async def app(config: SessionConfig, drain: Drain) -> AsyncIterator[RunningServer]:
    """Run the session service while inside."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(_database(config))
        signer = PassportSigner.from_directory(config.passport_key, "session")
        # Calls say on whose behalf they are made: turns run on when nobody is served any more.
        runner_channel = await stack.enter_async_context(service_channel(config.runner_address, signer=None))
        llm_channel = await stack.enter_async_context(service_channel(config.llm_proxy_address, signer=None))
        runner, models = Runner(runner_channel, signer), Models(llm_channel, signer)

        # Any number but 0 that no other replica has: 62 random bits.
        bus = Bus(database, replica=secrets.randbits(62) | 1)
        hub = Hub()
        log = Log(database, bus, hub.publish, hub.publish_delta)
        names = ModelNames(models)
        positions = Positions(database, log)
        permissions = Permissions(database, bus, hub, runner)
        preparer = Preparer(runner)
        turns = Turns(database, bus, hub, positions)
        filler = Filler(database, runner)
        sessions = Sessions(
            database, models=names, sandboxes=Sandboxes(runner), preparer=preparer, filler=filler
        )
        limits = _snapshot_limits(config)
        templates = Templates(database, bus, names, runner, limits)
        accounts = Accounts(database, bus, config.max_concurrent_turns)
        snapshots = Snapshots(database, bus, runner, kept=config.forkable_turns, limits=limits)
        deletion = Deletion(database, bus, hub, runner, templates=templates, snapshots_=snapshots)
        runs = Runs(
            database,
            log,
            hub,
            runner=runner,
            models=models,
            permissions=permissions,
            snapshots=snapshots,
            patience=config.runner_patience_seconds,
        )
        claims = Claims(database, bus, config.lease, config.max_concurrent_turns)
        dispatcher = Dispatcher(
            claims,
            runs,
            positions,
            hub,
            bus,
            places=config.max_running_turns,
            lease=config.lease,
            alone=not database.postgres,
        )
        queue = Queue(
            database,
            bus,
            hub,
            claims=claims,
            places=dispatcher,
            models=names,
            preparer=preparer,
            limit=config.max_queued_turns,
        )
        watch = Watch(database, hub, timedelta(seconds=config.keep_alive_seconds))
        bus.on(Topic.EVENTS, hub.wake)
        bus.on_reconnect(hub.wake_all)

        audit = await stack.enter_async_context(audit_trail_to_router(config.router_address, signer))
        servicers = [
            Servicer(
                session_service_pb2_grpc.add_SessionServiceServicer_to_server,
                SessionServicer(
                    sessions=sessions,
                    turns=turns,
                    watch=watch,
                    editor=Editor(database, bus, hub, models=names, positions=positions),
                    forks=Forks(database, filler, sessions, snapshots),
                    deletion=deletion,
                ),
                session_service_pb2.DESCRIPTOR.services_by_name["SessionService"],
            ),
            Servicer(
                turn_service_pb2_grpc.add_TurnServiceServicer_to_server,
                TurnServicer(queue, watch, turns, permissions),
                turn_service_pb2.DESCRIPTOR.services_by_name["TurnService"],
            ),
            Servicer(
                workspace_service_pb2_grpc.add_WorkspaceServiceServicer_to_server,
                WorkspaceServicer(Files(database, runner), snapshots),
                workspace_service_pb2.DESCRIPTOR.services_by_name["WorkspaceService"],
            ),
            Servicer(
                template_service_pb2_grpc.add_TemplateServiceServicer_to_server,
                TemplateServicer(templates),
                template_service_pb2.DESCRIPTOR.services_by_name["TemplateService"],
            ),
            Servicer(
                account_service_pb2_grpc.add_AccountServiceServicer_to_server,
                AccountServicer(accounts),
                account_service_pb2.DESCRIPTOR.services_by_name["AccountService"],
            ),
            Servicer(
                transcript_service_pb2_grpc.add_TranscriptServiceServicer_to_server,
                TranscriptServicer(Transcripts(database)),
                transcript_service_pb2.DESCRIPTOR.services_by_name["TranscriptService"],
            ),
            diagnostics("session", config),
        ]
        stack.push_async_callback(preparer.close)
        # The log is the last to stop: what others do on their way out still gets in.
        await stack.enter_async_context(background(log.write()))
        await stack.enter_async_context(background(bus.listen()))
        await stack.enter_async_context(background(permissions.deny_expired()))
        await stack.enter_async_context(background(deletion.purge()))
        await stack.enter_async_context(background(Retention(database, config.events_kept).sweep()))
        await stack.enter_async_context(background(dispatcher.keep()))
        stack.push_async_callback(dispatcher.stop)
        await stack.enter_async_context(background(dispatcher.dispatch()))
        await stack.enter_async_context(background(_end_streams(hub, drain)))
        server = await stack.enter_async_context(
            serving(
                service="session",
                address=config.address,
                servicers=servicers,
                verifier=PassportVerifier.from_file(config.passport_keys),
                drain=drain,
                grace=_GRACE_SECONDS,
                audit=audit,
                settle=lambda: dispatcher.settle(_GRACE_SECONDS, runner.stops),
            )
        )
        yield server


def _snapshot_limits(config: SessionConfig) -> SnapshotLimits:
    return SnapshotLimits(
        session=Total(config.session_snapshots, config.session_snapshot_bytes),
        tenant=Total(config.tenant_snapshots, config.tenant_snapshot_bytes),
    )


@asynccontextmanager
async def _database(config: SessionConfig) -> AsyncIterator[Database]:
    """Open the database, at the newest version of the schema."""
    url = sa.make_url(config.database)
    lock = only_owner(Path(url.database or "")) if url.get_backend_name() == "sqlite" else nullcontext()
    with lock:
        # A change of the schema takes as long as the tables are large, and waits for replicas that make it.
        async with opened(config.database, statement_seconds=None) as database:
            await upgrade(database)
        async with opened(config.database) as database:
            yield database


async def _end_streams(hub: Hub, drain: Drain) -> None:
    await drain.started.wait()
    hub.close(drain.failure())
