"""Workspaces with their history and snapshots: what callers change is known to the history."""

from __future__ import annotations

from pointsman.session.v1 import event_pb2

from runner.keyed_locks import KeyedLocks
from runner.names import SessionRef
from runner.threads import to_the_end
from runner.workspace import files
from runner.workspace.history import History
from runner.workspace.place import Workspaces
from runner.workspace.snapshots import Snapshots
from runner.workspace.told import ToldFiles
from runner.workspace.usage import disk_usage, workspace_full


class WorkspaceStore:
    """What may be done with workspaces from outside. History is kept by one call per session at a time."""

    def __init__(self, places: Workspaces, history: History, snapshots: Snapshots, limit_bytes: int) -> None:
        self.places = places
        self._history = history
        self._snapshots = snapshots
        self._limit = limit_bytes
        self._locks: KeyedLocks[SessionRef] = KeyedLocks()

    async def write(self, session: SessionRef, path: str, data: bytes) -> files.Entry:
        """Write a file whole. WORKSPACE_FULL when it does not fit."""
        async with self.places.changing.hold(session):
            root = await self.places.ensure(session)
            used = await disk_usage(root)
            if used + len(data) > self._limit:
                raise workspace_full(used, self._limit)
            try:
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
        """Note how the workspace is when a turn begins. Takes no time when only the agent wrote to it."""
        root = await self.places.ensure(session)
        async with self._locks.hold(session):
            if self._history.is_clean(session):
                self._history.begin(session, turn_id, root)
            else:
                await to_the_end(self._history.begin, session, turn_id, root)

    async def end_turn(self, session: SessionRef, told: ToldFiles) -> list[event_pb2.FileChange]:
        """Note how it is when a turn ends; return what the turn's events do not say yet."""
        root = await self.places.ensure(session)
        async with self._locks.hold(session):
            changes, _ = await to_the_end(self._history.end, session, root, told)
            return changes

    async def changes(self, session: SessionRef, turn_id: str) -> tuple[list[event_pb2.FileChange], bool]:
        """Return what changed since a turn began, '' for the newest, and whether there was more."""
        root = await self.places.ensure(session)
        async with self._locks.hold(session):
            return await to_the_end(self._history.since, session, turn_id, root)

    async def create_snapshot(self, session: SessionRef, snapshot_id: str) -> int:
        """Keep the workspace; return the bytes of its files. Idempotent by the id."""
        root = await self.places.ensure(session)
        return await to_the_end(self._snapshots.create, session, snapshot_id, root)

    async def keep_snapshot_again(self, session: SessionRef, snapshot_id: str, source_id: str) -> None:
        """Keep what another snapshot holds under one more id."""
        await to_the_end(self._snapshots.keep_again, session, snapshot_id, source_id)

    async def restore_snapshot(self, session: SessionRef, snapshot_id: str) -> None:
        """Make the workspace what a snapshot holds. No sandbox may be on it."""
        async with self.places.changing.hold(session):
            root = await self.places.ensure(session)
            try:
                await to_the_end(self._snapshots.restore, session, snapshot_id, root)
            finally:
                self._history.touch(session)

    async def delete_snapshot(self, tenant: str, snapshot_id: str) -> None:
        """Delete a snapshot. Idempotent."""
        await to_the_end(self._snapshots.delete, tenant, snapshot_id)

    async def remove(self, session: SessionRef) -> None:
        """Remove a workspace with its history. Its snapshots stay: others may start from them."""
        async with self._locks.hold(session):
            await to_the_end(self._history.forget, session)
            await self.places.remove(session)
