"""One agent: Claude Code in its sandbox, and the SDK client outside that drives it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, Final, Protocol

import structlog
from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient
from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from runner.agent.agent_options import PermissionModeName
from runner.agent.outcome import death_failure, out_of_memory
from runner.agent.stdio import SandboxTransport
from runner.agent.tool_hooks import ToolHooks, ToolListener
from runner.bounded import clean
from runner.sandboxes.protocol import SandboxProcess

# Booting takes 0.25 s; on a machine that boots many at once, seconds.
_BOOT_SECONDS: Final = 45.0
_CONTROL_SECONDS: Final = 20.0
_INTERRUPT_SECONDS: Final = 1.0
_CLOSE_SECONDS: Final = 15.0
_STDERR_BYTES: Final = 4096

_log = structlog.get_logger("runner.agent")


class Listener(ToolListener, Protocol):
    """The turn that an agent works for."""

    def message(self, message: object) -> None:
        """Take one of the SDK's messages, in order."""
        ...


class Agent:
    """A running agent. It has at most one listener; without one, what it says is dropped.

    `ended` is set when the agent is gone, for whatever reason; `death` then says why.
    """

    def __init__(self, process: SandboxProcess) -> None:
        self.process = process
        self.ended = asyncio.Event()
        self.listener: Listener | None = None
        self.model = ""
        self._transport = SandboxTransport(process)
        self._client: ClaudeSDKClient | None = None
        self._cause: BaseException | None = None
        self._doom: Failure | None = None
        self._exit_code: int | None = None
        self._stderr = b""
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def start(cls, process: SandboxProcess, options: ClaudeAgentOptions, model: str) -> Agent:
        """Connect to the agent in a sandbox that was launched. Raises Failure SANDBOX_START_FAILED.

        The sandbox is ended when it does not connect, also when the call is cancelled.
        """
        agent = cls(process)
        agent._tasks.append(asyncio.create_task(agent._keep_stderr(), name="agent stderr"))
        try:
            async with asyncio.timeout(_BOOT_SECONDS):
                await agent._connect(options)
        except BaseException as error:
            await agent.close()
            # The SDK raises bare exceptions, and what the sandbox did is the cause in any case.
            if isinstance(error, Exception):
                raise agent._start_failed() from error
            raise
        agent._tasks.append(asyncio.create_task(process.settle(), name="settle"))
        agent.model = model
        agent._tasks.append(asyncio.create_task(agent._read(), name="agent reader"))
        return agent

    async def _connect(self, options: ClaudeAgentOptions) -> None:
        hooks = ToolHooks(lambda: self.listener)
        own = dataclasses.replace(options, can_use_tool=hooks.permission, hooks=hooks.matchers())
        self._client = ClaudeSDKClient(own, transport=self._transport)
        await self._client.connect()

    def death(self) -> Failure:
        """Return why it is gone."""
        if self._doom is not None:
            return self._doom
        if self.process.out_of_memory():
            return out_of_memory()
        return death_failure(self._cause, self._exit_code)

    async def doom(self, failure: Failure) -> None:
        """End it for a reason, which its death then has."""
        self._doom = self._doom or failure
        await self.process.kill()
        # Not only when the reader notices: until then it would be taken for one that idles.
        self.ended.set()

    async def query(self, prompt: str, uuid: str) -> None:
        """Give it a prompt. Raises Failure when the agent is gone."""
        self._transport.begin_turn()
        message = {
            "type": "user",
            "uuid": uuid,
            "message": {"role": "user", "content": prompt},
            "parent_tool_use_id": None,
            # The prompt is text from outside: `@path` and `/command` in it are not for the CLI to act on.
            "client_composed": True,
        }

        async def one() -> Any:
            yield message

        await self._control(lambda client: client.query(one()))

    async def set_model(self, model: str) -> None:
        """Use another model from the next prompt on. The CLI tries it with a call of one token."""
        if model != self.model:
            await self._control(lambda client: client.set_model(model))
            self.model = model

    async def set_mode(self, mode: PermissionModeName) -> None:
        """Use a permission mode from now on. The agent changes it by itself, so it is told for each turn."""
        await self._control(lambda client: client.set_permission_mode(mode))

    async def mcp_servers(self) -> list[Any]:
        """Return what the CLI says of its MCP servers, which is not checked; nothing when it does not say."""
        answer: Any = None

        async def ask(client: ClaudeSDKClient) -> None:
            nonlocal answer
            answer = await client.get_mcp_status()

        await self._control(ask)
        found = answer.get("mcpServers") if isinstance(answer, dict) else None
        return found if isinstance(found, list) else []

    async def interrupt(self) -> bool:
        """Ask it to stop what it does; return whether it said yes within a second."""
        try:
            async with asyncio.timeout(_INTERRUPT_SECONDS):
                await self._control(ClaudeSDKClient.interrupt)
        except (Failure, TimeoutError):
            return False
        return True

    async def close(self) -> None:
        """End it with its sandbox, in every case."""
        try:
            if self._client is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_CLOSE_SECONDS):
                        await self._client.disconnect()
        finally:
            await self.process.kill()
            for task in self._tasks:
                if task is not asyncio.current_task():
                    task.cancel()
            self.ended.set()

    async def _control(self, call: Callable[[ClaudeSDKClient], Any]) -> None:
        if self._client is None or self.ended.is_set():
            raise self.death()
        try:
            async with asyncio.timeout(_CONTROL_SECONDS):
                await call(self._client)
        except TimeoutError:
            raise
        except ConnectionError as error:
            # Its sandbox has just ended; the reader is about to know how.
            async with asyncio.timeout(_CONTROL_SECONDS):
                await self.ended.wait()
            raise self.death() from error
        except Exception as error:
            raise Failure(
                errors_pb2.ERROR_REASON_AGENT_FAILED,
                f"The agent refused: {clean(str(error))[:500]}",
            ) from error

    async def _read(self) -> None:
        """Take everything the agent says, always: its inbox is small, and a full one blocks `interrupt`."""
        assert self._client is not None  # noqa: S101 - started after connecting
        try:
            async for message in self._client.receive_messages():
                if self.listener is not None:
                    self.listener.message(message)
        except Exception as error:  # noqa: BLE001 - whatever ended it, it is over; `death` tells them apart
            self._cause = error
            _log.info("agent_ended", cause=type(error).__name__)
        # It may only have closed its output: then its end is ours to make.
        await self.process.kill()
        self._exit_code = await self.process.wait()
        self.ended.set()

    async def _keep_stderr(self) -> None:
        while chunk := await self.process.stderr.read(_STDERR_BYTES):
            self._stderr = (self._stderr + chunk)[-_STDERR_BYTES:]

    def _start_failed(self) -> Failure:
        said = clean(self._stderr.decode(errors="replace")).strip().splitlines()
        return Failure(
            errors_pb2.ERROR_REASON_SANDBOX_START_FAILED,
            f"The agent did not start in its sandbox: {said[-1][:500] if said else 'it said nothing'}",
        )
