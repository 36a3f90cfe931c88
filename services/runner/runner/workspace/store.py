"""Workspaces with their history and snapshots: what callers change is known to the history."""

from __future__ import annotations

import asyncio
import functools
import threading
from pathlib import Path

from pointsman.session.v1 import event_pb2
from servicekit.errors import Failure

from runner.keyed_locks import KeyedLocks
from runner.names import SessionRef
from runner.sandboxes.protocol import Limits
from runner.threads import SharedThreads, to_the_end
from runner.workspace import files
from runner.workspace.history import History
from runner.workspace.listing import Entry, list_files
from runner.workspace.place import Workspaces
from runner.workspace.snapshots import Snapshots
from runner.workspace.told import ToldFiles
from runner.workspace.usage import Usage, allowed_by, disk_usage, workspace_full


class WorkspaceStore:
    """What may be done with workspaces from outside. History is kept by one call per session at a time."""

    def __init__(self, places: Workspaces, history: History, snapshots: Snapshots, limits: Limits) -> None:
        self.places = places
        self._history = history
        self._snapshots = snapshots
        self._limits = limits
        self._locks: KeyedLocks[SessionRef] = KeyedLocks()
        self._copying: KeyedLocks[tuple[str, str]] = KeyedLocks()
        # A tenant that lists, compares or copies without end takes threads from no other.
        self._lists = SharedThreads("list", size=4, share=2)
        self._scans = SharedThreads("scan", size=4, share=3)
        self._copies = SharedThreads("copy", size=4, share=2)

    def close(self) -> None:
        """Begin nothing more."""
        for threads in (self._lists, self._scans, self._copies):
            threads.close()

    async def page(
        self, session: SessionRef, folder: str, *, recursive: bool, token: str, limit: int
    ) -> tuple[list[Entry], str]:
        """Return a page of what lies in a folder, and the next page's token. PAGE_TOKEN_INVALID."""
        root = await self.places.ensure(session)
        return await self._lists.run(
            session.tenant, list_files, root, folder, recursive=recursive, token=token, limit=limit
        )

    async def write(self, session: SessionRef, path: str, data: bytes) -> Entry:
        """Write a file whole. WORKSPACE_FULL when it does not fit."""
        async with self.places.changing.hold(session):
            root = await self.places.ensure(session)
            used = await disk_usage(root)
            # Of folders that are missing on the way, too, if any.
            more = Usage(len(data), await to_the_end(files.missing_parts, root, path))
            grown = Usage(used.bytes + more.bytes, used.entries + more.entries)
            if grown.exceeds(allowed_by(self._limits)):
                raise workspace_full(grown, self._limits)
            try:
                await to_the_end(self.places.sync, session)
                return await to_the_end(files.write_file, root, path, data)
            finally:
                self._history.touch(session)

    async def delete(self, session: SessionRef, path: str) -> None:
        """Delete a file or folder."""
        async with self.places.changing.hold(session):
            root = await self.places.ensure(session)
            try:
                await to_the_end(files.delete_file, root, path)
            finally:
                self._history.touch(session)

    async def begin_turn(self, session: SessionRef, turn_id: str) -> None:
        """Note how the workspace is when a turn begins. Takes no time when only the agent wrote to it.

        Raises Failure WORKSPACE_MISSING when somebody removed it under a sandbox that still shows it.
        """
        root = self._existing(session)
        async with self._locks.hold(session):
            if self._history.is_clean(session):
                self._history.begin(session, turn_id, root)
            else:
                await self._scans.run(session.tenant, self._history.begin, session, turn_id, root)

    async def end_turn(self, session: SessionRef, told: ToldFiles) -> list[event_pb2.FileChange]:
        """Note how it is when a turn ends; return what the turn's events do not say yet.

        Raises Failure WORKSPACE_MISSING when somebody removed it meanwhile.
        """
        root = self._existing(session)
        async with self._locks.hold(session):
            changes, _ = await self._scans.run(session.tenant, self._history.end, session, root, told)
            return changes

    def _existing(self, session: SessionRef) -> Path:
        self.places.check(session, made=True)
        return self.places.path(session)

    async def changes(self, session: SessionRef, turn_id: str) -> tuple[list[event_pb2.FileChange], bool]:
        """Return what changed since a turn began, '' for the newest, and whether there was more."""
        root = await self.places.ensure(session)
        async with self._locks.hold(session):
            return await self._scans.run(session.tenant, self._history.since, session, turn_id, root)

    async def create_snapshot(
        self, session: SessionRef, snapshot_id: str, *, owned: bool = False, max_bytes: int = 0
    ) -> int:
        """Keep the workspace; return the bytes of its files. Idempotent by the id.

        One that is `owned` goes with the session. Nothing is left of a call that is cancelled.
        """
        root = await self.places.ensure(session)
        stop = threading.Event()
        made: list[str] = []

        def create() -> int:
            size, new = self._snapshots.create(
                session, snapshot_id, root, stop=stop, owned=owned, max_bytes=max_bytes
            )
            made.extend([snapshot_id] * new)
            return size

        async with self._copying.hold((session.tenant, snapshot_id)):
            try:
                size = await self._copies.run_until(session.tenant, stop, create)
                # What it owns was deleted already.
                self.places.check(session)
            except (asyncio.CancelledError, Failure):
                if made:
                    # Nobody knows of it.
                    await to_the_end(self._snapshots.delete, session.tenant, snapshot_id, session.session_id)
                raise
        return size

    async def keep_snapshot_again(self, session: SessionRef, snapshot_id: str, source_id: str) -> None:
        """Keep what another snapshot holds under one more id."""
        await to_the_end(self._snapshots.keep_again, session, snapshot_id, source_id)

    async def restore_snapshot(self, session: SessionRef, snapshot_id: str) -> None:
        """Make the workspace what a snapshot holds. No sandbox may be on it."""
        async with self.places.changing.hold(session):
            root = await self.places.ensure(session)
            stop = threading.Event()
            restore = functools.partial(self._snapshots.restore, session, snapshot_id, root, stop)
            try:
                await self._copies.run_until(session.tenant, stop, restore)
            finally:
                self._history.touch(session)

    async def delete_snapshot(self, tenant: str, snapshot_id: str, session_id: str) -> None:
        """Delete a snapshot, once nobody writes it any more. `session_id` owns it, if any. Idempotent."""
        async with self._copying.hold((tenant, snapshot_id)):
            await to_the_end(self._snapshots.delete, tenant, snapshot_id, session_id)

    async def clear_left_over(self) -> None:
        """Remove what a runner that was killed has left."""
        await to_the_end(self._snapshots.clear_left_over)
        await to_the_end(self.places.clear_left_over)

    async def remove(self, session: SessionRef) -> None:
        """Remove a workspace with its history and the snapshots that it owns. Idempotent."""
        async with self._locks.hold(session):
            await to_the_end(self._history.forget, session)
            # From then on nothing is made for it.
            await self.places.remove(session)
            await to_the_end(self._snapshots.delete_owned, session)
