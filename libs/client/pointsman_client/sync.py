"""The client without `async`: the same one, on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

from pointsman.router.v1 import router_service_pb2
from pointsman.session.v1 import event_pb2, session_service_pb2, turn_pb2

from pointsman_client.client import PATIENCE_SECONDS, AsyncClient

Result = TypeVar("Result")
Item = TypeVar("Item")


class Client:
    """As `AsyncClient`; may be used from several threads. Use it with `with`, or `close` it."""

    def __init__(self, url: str, key: str = "") -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pointsman-client", daemon=True)
        self._thread.start()
        self._client = self.run(_made(url, key))

    def __enter__(self) -> Self:
        """Open it; nothing is sent yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection and end the thread."""
        self.run(self._client.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine of the asynchronous client, `client.asynchronous`, and return its result."""
        future = self.submit(work)
        try:
            return future.result()
        except BaseException:
            # Ctrl-C lands here, and the call must not go on without us.
            if future.cancel():
                asyncio.run_coroutine_threadsafe(_unwound(), self._loop).result()
            raise

    def submit(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Begin a coroutine of the asynchronous client and return at once; also from a signal's handler."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    @property
    def asynchronous(self) -> AsyncClient:
        """The client that does the work, with the stubs of all services.

        Calls belong to the client's own loop: make them in a coroutine that `run` or `submit` is given.
        """
        return self._client

    def create_session(self, account: str = "", **fields: Any) -> session_service_pb2.Session:
        """Make a session and return it; see `AsyncClient.create_session`."""
        return self.run(self._client.create_session(account, **fields))

    def start_turn(
        self, request: router_service_pb2.StartTurnRequest, *, patience: float = PATIENCE_SECONDS
    ) -> turn_pb2.Turn:
        """Queue a turn; see `AsyncClient.start_turn`."""
        return self.run(self._client.start_turn(request, patience=patience))

    def run_turn(self, prompt: str, **fields: Any) -> Iterator[event_pb2.Event]:
        """Run a prompt and yield its events; see `AsyncClient.run_turn`."""
        return self.iterate(self._client.run_turn(prompt, **fields))

    def follow_turn(self, turn: turn_pb2.Turn, **fields: Any) -> Iterator[event_pb2.Event]:
        """Yield a turn's events; see `AsyncClient.follow_turn`."""
        return self.iterate(self._client.follow_turn(turn, **fields))

    def ask(self, prompt: str, **fields: Any) -> str:
        """Run a prompt and return the answer; see `AsyncClient.ask`."""
        return self.run(self._client.ask(prompt, **fields))

    def read_file(self, session: str, path: str) -> bytes:
        """Return a file of a session's workspace."""
        return self.run(self._client.read_file(session, path))

    def list_sessions(self, account: str = "") -> Iterator[session_service_pb2.Session]:
        """Yield sessions, the one with the newest activity first."""
        return self.iterate(self._client.list_sessions(account))

    def iterate(self, items: AsyncIterator[Item]) -> Iterator[Item]:
        """Iterate over an asynchronous iterator of the asynchronous client."""
        steps: set[asyncio.Task[Any] | None] = set()
        try:
            while True:
                try:
                    yield self.run(_next(items, steps))
                except StopAsyncIteration:
                    return
        finally:
            if isinstance(items, AsyncGenerator):
                self.run(_closed(items, steps))


async def _made(url: str, key: str) -> AsyncClient:
    # gRPC ties a channel to the loop that it is made on.
    return AsyncClient(url, key)


async def _unwound() -> None:
    """Wait until every task that was cancelled has ended."""
    ending = [task for task in asyncio.all_tasks() if task.cancelling()]
    if ending:
        await asyncio.wait(ending)


async def _next(items: AsyncIterator[Item], steps: set[asyncio.Task[Any] | None]) -> Item:
    step = asyncio.current_task()
    steps.add(step)
    try:
        return await anext(items)
    finally:
        steps.discard(step)


async def _closed(items: AsyncGenerator[Any, None], steps: set[asyncio.Task[Any] | None]) -> None:
    """Close a generator, in which a step may still be: Ctrl-C can land before the step is waited for."""
    pending = [step for step in steps if step is not None]
    for step in pending:
        step.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    await items.aclose()
