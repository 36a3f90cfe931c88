"""The session service's peers, scripted, on real sockets: a runner and an llm-proxy that do as told."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pointsman.errors.v1 import errors_pb2
from pointsman.llm.v1 import llm_service_pb2 as llm
from pointsman.llm.v1 import llm_service_pb2_grpc
from pointsman.runner.v1 import runner_service_pb2 as runner
from pointsman.runner.v1 import runner_service_pb2_grpc
from pointsman.session.v1 import event_pb2, turn_pb2, workspace_service_pb2
from servicekit.errors import Failure
from servicekit.serving import Servicer

Event = event_pb2.Event
DELTAS = ("text_delta", "thinking_delta")


@dataclass
class ScriptedTurn:
    """A turn as the scripted runner keeps it: its items so far, and what its script can wait for."""

    name: str
    session: str
    epoch: int
    prompt: str
    request: runner.RunTurnRequest
    items: list[Event] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    decisions: dict[str, event_pb2.PermissionDecided] = field(default_factory=dict)
    live: list[Event] = field(default_factory=list)
    over: bool = False
    notes: Path | None = None
    """The file that the items are written to, a line each."""

    async def more_than(self, live: int, items: int) -> None:
        """Wait for something new, or the end."""
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.live) > live or len(self.items) > items or self.over)

    async def emit(self, event: Event) -> None:
        """Send one item. Deltas are not kept."""
        async with self.changed:
            self.live.append(event)
            if event.WhichOneof("kind") not in DELTAS:
                self.items.append(event)
                if self.notes is not None:
                    with self.notes.open("a") as file:
                        file.write(event.SerializeToString().hex() + "\n")
            self.changed.notify_all()


def finished(
    outcome: turn_pb2.TurnState.ValueType = turn_pb2.TURN_STATE_SUCCEEDED, result: str = "", **more: Any
) -> Event:
    """Return a `turn_finished`."""
    return Event(turn_finished=turn_pb2.TurnFinished(outcome=outcome, result=result, **more))


def text_delta(text: str, offset: int, message_id: str = "m1") -> Event:
    """Return a piece of a block."""
    return Event(text_delta=event_pb2.TextDelta(text=text, message_id=message_id, block=0, offset=offset))


def message(message_id: str, text: str) -> Event:
    """Return a whole block."""
    return Event(assistant_message=event_pb2.AssistantMessage(text=text, message_id=message_id, block=0))


def tool(name: str, tool_id: str, **arguments: str) -> Event:
    """Return a `tool_use`."""
    event = Event(tool_use=event_pb2.ToolUse(id=tool_id, tool=name))
    event.tool_use.input.update(arguments)
    return event


def answered(tool_id: str, content: str = "ok") -> Event:
    """Return a `tool_result`."""
    return Event(tool_result=event_pb2.ToolResult(tool_use_id=tool_id, content=content))


def usage(input_tokens: int = 10, output_tokens: int = 5, cost_usd: float = 0.001) -> Event:
    """Return a `usage`."""
    spent = turn_pb2.Usage(
        input_tokens=input_tokens, output_tokens=output_tokens, cost_usd=cost_usd, model_calls=1
    )
    return Event(usage=event_pb2.UsageReported(model="demo/offline", usage=spent))


Script = Callable[["ScriptedRunner", ScriptedTurn], Any]


async def say(runner_: ScriptedRunner, turn: ScriptedTurn) -> None:
    """`say …`: answer with the prompt's words, a delta each."""
    words = turn.prompt.removeprefix("say ")
    offset = 0
    for word in words.split(" "):
        piece = word if offset == 0 else " " + word
        delta = event_pb2.TextDelta(text=piece, message_id=turn.name, block=0, offset=offset)
        await turn.emit(Event(text_delta=delta))
        offset += len(piece)
    message = event_pb2.AssistantMessage(text=words, message_id=turn.name, block=0, model="demo/offline")
    await turn.emit(Event(assistant_message=message))
    await turn.emit(usage())
    await turn.emit(finished(result=words))


async def work(runner_: ScriptedRunner, turn: ScriptedTurn) -> None:
    """`work`: write a file and run a command."""
    changed = event_pb2.SandboxChanged(state=event_pb2.SANDBOX_STATE_READY)
    await turn.emit(Event(sandbox_changed=changed))
    await turn.emit(tool("Write", "t1", file_path="/workspace/hello.py"))
    change = event_pb2.FileChange(path="hello.py", type=event_pb2.FILE_CHANGE_TYPE_CREATED, tool_use_id="t1")
    await turn.emit(Event(file_change=change))
    await turn.emit(answered("t1"))
    await turn.emit(tool("Bash", "t2", command="python3 hello.py"))
    await turn.emit(answered("t2", "hello world"))
    await turn.emit(usage())
    await turn.emit(finished(result="done", tool_ran=True))


async def wait(runner_: ScriptedRunner, turn: ScriptedTurn) -> None:
    """`wait`: use a tool, then go on when released or cancelled."""
    await turn.emit(tool("Bash", "t1", command="sleep"))
    released = asyncio.create_task(turn.released.wait())
    cancelled = asyncio.create_task(turn.cancelled.wait())
    await asyncio.wait({released, cancelled}, return_when=asyncio.FIRST_COMPLETED)
    released.cancel(), cancelled.cancel()
    if turn.cancelled.is_set():
        error = Failure(errors_pb2.ERROR_REASON_TURN_CANCELLED, "The turn was cancelled.").to_proto()
        await turn.emit(finished(turn_pb2.TURN_STATE_CANCELLED, error=error, tool_ran=True))
        return
    await turn.emit(answered("t1"))
    await turn.emit(finished(result="waited", tool_ran=True))


async def ask(runner_: ScriptedRunner, turn: ScriptedTurn) -> None:
    """`ask <tool>`: ask for permission, and answer with the decision."""
    tool_name = turn.prompt.split(" ")[1]
    permission_id = f"p{len(turn.items)}"
    asked = event_pb2.PermissionRequested(permission_id=permission_id, tool=tool_name)
    await turn.emit(Event(permission_requested=asked))
    async with turn.changed:
        await turn.changed.wait_for(lambda: permission_id in turn.decisions or turn.cancelled.is_set())
    if turn.cancelled.is_set():
        await turn.emit(finished(turn_pb2.TURN_STATE_CANCELLED))
        return
    decision = turn.decisions[permission_id]
    name = event_pb2.PermissionDecision.Name(decision.decision)
    await turn.emit(finished(result=f"{name} {decision.message}".strip()))


async def fail(runner_: ScriptedRunner, turn: ScriptedTurn) -> None:
    """`fail`: end with an error."""
    error = Failure(errors_pb2.ERROR_REASON_AGENT_FAILED, "The agent failed.").to_proto()
    await turn.emit(finished(turn_pb2.TURN_STATE_FAILED, error=error))


async def spell(runner_: ScriptedRunner, turn: ScriptedTurn) -> None:
    """`spell <text>`: a letter at a time, waiting for `released` in the middle."""
    text = turn.prompt.removeprefix("spell ")
    for offset, letter in enumerate(text):
        if offset == len(text) // 2:
            await turn.released.wait()
        await turn.emit(text_delta(letter, offset))
    await turn.emit(message("m1", text))
    await turn.emit(finished(result=text))


async def steps(runner_: ScriptedRunner, turn: ScriptedTurn) -> None:
    """`steps <n> <seconds>`: use n tools, each for a while."""
    count, seconds = turn.prompt.split(" ")[1:3]
    for number in range(int(count)):
        await turn.emit(tool("Bash", f"t{number}", command=f"step {number}"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(float(seconds)):
                await turn.cancelled.wait()
                await turn.emit(finished(turn_pb2.TURN_STATE_CANCELLED, tool_ran=True))
                return
        await turn.emit(answered(f"t{number}"))
    await turn.emit(finished(result=f"{count} steps", tool_ran=True))


async def hold(runner_: ScriptedRunner, turn: ScriptedTurn) -> None:
    """`hold`: boot, and do nothing until released."""
    await turn.emit(Event(sandbox_changed=event_pb2.SandboxChanged(state=event_pb2.SANDBOX_STATE_STARTING)))
    await turn.released.wait()
    await turn.emit(message("m1", "held"))
    await turn.emit(finished(result="held"))


async def chatter(runner_: ScriptedRunner, turn: ScriptedTurn) -> None:
    """`chatter <n> <size>`: n blocks of 5 pieces of text of a size."""
    count, size = (int(word) for word in turn.prompt.split(" ")[1:])
    for number in range(count):
        for piece in range(5):
            await turn.emit(text_delta("x" * size, piece * size, f"m{number}"))
            await asyncio.sleep(0)
        await turn.emit(message(f"m{number}", "x" * size * 5))
    await turn.emit(finished(result="done"))


SCRIPTS: dict[str, Script] = {
    "say": say,
    "work": work,
    "wait": wait,
    "ask": ask,
    "fail": fail,
    "spell": spell,
    "chatter": chatter,
    "steps": steps,
    "hold": hold,
}


class ScriptedRunner(runner_service_pb2_grpc.RunnerServiceServicer):
    """A runner whose agents do what the first word of the prompt says.

    `journal` is what it did: (time, "start" or "end", turn). Overlaps in it are overlaps.
    """

    def __init__(self, scripts: dict[str, Script] | None = None) -> None:
        self.scripts = SCRIPTS | (scripts or {})
        self.turns: dict[str, ScriptedTurn] = {}
        self.past: dict[str, ScriptedTurn] = {}
        # From this time on it knows of every turn that came (microseconds since 1970).
        self.since = 1
        # Where it writes down what turns say, for the process that comes after it.
        self.notes: Path | None = None
        self.journal: list[tuple[float, str, str]] = []
        self.requests: list[runner.RunTurnRequest] = []
        self.prepared: list[runner.PrepareSandboxRequest] = []
        self.deleted: list[str] = []
        self.snapshots: dict[str, str] = {}
        """Whose workspace each snapshot is of."""
        self.kept_again: dict[str, str] = {}
        """Which snapshot another one was made from."""
        self.allowed_hosts = {"example.org", "*.example.net"}
        self.restored: list[tuple[str, str]] = []
        """Sessions, and the snapshot that first held what they got."""
        self.files: dict[tuple[str, str], bytes] = {}
        self.sandboxes: dict[str, event_pb2.SandboxState.ValueType] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def as_servicer(self) -> Servicer:
        """Return what `servicekit.testing.serve` takes."""
        return Servicer(
            runner_service_pb2_grpc.add_RunnerServiceServicer_to_server,
            self,
            runner.DESCRIPTOR.services_by_name["RunnerService"],
        )

    async def RunTurn(
        self, request: runner.RunTurnRequest, _context: Any
    ) -> AsyncIterator[runner.RunTurnResponse]:
        self.requests.append(request)
        turn = self.turns.get(request.turn)
        if turn is None:
            if request.attach_only:
                for item in self._past(request):
                    yield item
            self._refuse_second(request.turn)
            turn = self._start(request)
        if request.epoch < turn.epoch:
            raise Failure(errors_pb2.ERROR_REASON_LEASE_LOST, "A newer owner has the turn.")
        turn.epoch = request.epoch
        index, live = request.after_index, len(turn.live)
        while True:
            while index < len(turn.items):
                event = turn.items[index]
                index += 1
                live = max(live, turn.live.index(event) + 1)
                yield runner.RunTurnResponse(index=index, event=event)
            if turn.over:
                return
            await turn.more_than(live, index)
            for event in turn.live[live:]:
                if event.WhichOneof("kind") not in DELTAS:
                    break
                live += 1
                yield runner.RunTurnResponse(event=event)

    def _past(self, request: runner.RunTurnRequest) -> Iterator[runner.RunTurnResponse]:
        """Say what is known of a turn that does not run here any more."""
        past = self.past.get(request.turn) or self._noted(request)
        if past is None:
            since = str(self.since)
            raise Failure(errors_pb2.ERROR_REASON_TURN_NOT_FOUND, "There is no such turn.", since=since)
        for index, event in enumerate(past.items, 1):
            if index > request.after_index:
                yield runner.RunTurnResponse(index=index, event=event)
        if not any(event.HasField("turn_finished") for event in past.items):
            acted = any(event.HasField("tool_use") for event in past.items)
            reason = errors_pb2.ERROR_REASON_TURN_NOT_FOUND
            raise Failure(reason, "It was cut off.", acted="true" if acted else "false")

    def _noted(self, request: runner.RunTurnRequest) -> ScriptedTurn | None:
        """Return a turn of a process before this one."""
        notes = None if self.notes is None else self.notes / request.turn.replace("/", "-")
        if notes is None or not notes.exists():
            return None
        items = [Event.FromString(bytes.fromhex(line)) for line in notes.read_text().splitlines()]
        return ScriptedTurn(request.turn, "", 0, "", request, items)

    def _refuse_second(self, name: str) -> None:
        session = name.partition("/turns/")[0]
        for turn in self.turns.values():
            if turn.session == session and not turn.over:
                raise Failure(
                    errors_pb2.ERROR_REASON_TURN_RUNNING, "Another turn of the session runs.", turn=turn.name
                )

    def _start(self, request: runner.RunTurnRequest) -> ScriptedTurn:
        session = request.turn.partition("/turns/")[0]
        turn = ScriptedTurn(request.turn, session, request.epoch, request.prompt, request)
        self.turns[request.turn] = turn
        if self.notes is not None:
            turn.notes = self.notes / request.turn.replace("/", "-")
            turn.notes.write_text("")
        task = asyncio.create_task(self._run(turn))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return turn

    async def _run(self, turn: ScriptedTurn) -> None:
        self.journal.append((time.monotonic(), "start", turn.name))
        script = self.scripts[turn.prompt.split("\n")[-1].split(" ")[0]]
        turn.prompt = turn.prompt.split("\n")[-1]
        await script(self, turn)
        self.journal.append((time.monotonic(), "end", turn.name))
        async with turn.changed:
            turn.over = True
            turn.changed.notify_all()

    def forget(self) -> None:
        """Lose all turns, as a runner that was killed does."""
        for task in self._tasks:
            task.cancel()
        self.past |= self.turns
        self.turns.clear()

    async def CancelTurn(self, request: runner.CancelTurnRequest, _context: Any) -> runner.CancelTurnResponse:
        turn = self.turns.get(request.turn)
        if turn is None or turn.over:
            return runner.CancelTurnResponse(found=False)
        async with turn.changed:
            turn.cancelled.set()
            turn.changed.notify_all()
        return runner.CancelTurnResponse(found=True)

    async def DecidePermission(
        self, request: runner.DecidePermissionRequest, _context: Any
    ) -> runner.DecidePermissionResponse:
        turn = self.turns.get(request.turn)
        if turn is None:
            return runner.DecidePermissionResponse(found=False)
        async with turn.changed:
            turn.decisions[request.decided.permission_id] = request.decided
            turn.changed.notify_all()
        return runner.DecidePermissionResponse(found=True)

    async def PrepareSandbox(
        self, request: runner.PrepareSandboxRequest, _context: Any
    ) -> runner.PrepareSandboxResponse:
        for host in request.sandbox.egress_hosts:
            if host not in self.allowed_hosts:
                raise Failure(
                    errors_pb2.ERROR_REASON_EGRESS_NOT_ALLOWED, f"{host} is not allowed here.", host=host
                )
        self.prepared.append(request)
        return runner.PrepareSandboxResponse()

    async def DeleteSandbox(
        self, request: runner.DeleteSandboxRequest, _context: Any
    ) -> runner.DeleteSandboxResponse:
        self.deleted.append(request.session)
        return runner.DeleteSandboxResponse()

    async def CreateSnapshot(
        self, request: runner.CreateSnapshotRequest, _context: Any
    ) -> runner.CreateSnapshotResponse:
        source = request.source_snapshot_id
        if source and source not in self.snapshots:
            raise Failure(errors_pb2.ERROR_REASON_SNAPSHOT_NOT_FOUND, "There is no such snapshot.")
        self.snapshots[request.snapshot_id] = self.snapshots[source] if source else request.session
        if source:
            self.kept_again[request.snapshot_id] = self.kept_again.get(source, source)
        return runner.CreateSnapshotResponse(size_bytes=42)

    async def RestoreSnapshot(
        self, request: runner.RestoreSnapshotRequest, _context: Any
    ) -> runner.RestoreSnapshotResponse:
        if request.snapshot_id not in self.snapshots:
            raise Failure(errors_pb2.ERROR_REASON_SNAPSHOT_NOT_FOUND, "There is no such snapshot.")
        first = self.kept_again.get(request.snapshot_id, request.snapshot_id)
        self.restored.append((request.session, first))
        return runner.RestoreSnapshotResponse()

    async def DeleteSnapshot(
        self, request: runner.DeleteSnapshotRequest, _context: Any
    ) -> runner.DeleteSnapshotResponse:
        self.snapshots.pop(request.snapshot_id, None)
        return runner.DeleteSnapshotResponse()

    async def WriteFile(self, request: runner.WriteFileRequest, _context: Any) -> runner.WriteFileResponse:
        asked = request.request
        self.files[asked.session, asked.path] = asked.data
        info = workspace_service_pb2.FileInfo(path=asked.path, size_bytes=len(asked.data))
        return runner.WriteFileResponse(response=workspace_service_pb2.WriteFileResponse(file=info))

    async def ReadFile(
        self, request: runner.ReadFileRequest, _context: Any
    ) -> AsyncIterator[runner.ReadFileResponse]:
        asked = request.request
        if (asked.session, asked.path) not in self.files:
            raise Failure(errors_pb2.ERROR_REASON_FILE_NOT_FOUND, "There is no such file.")
        data = self.files[asked.session, asked.path]
        yield runner.ReadFileResponse(response=workspace_service_pb2.ReadFileResponse(data=data))

    async def ListFiles(self, request: runner.ListFilesRequest, _context: Any) -> runner.ListFilesResponse:
        found = [
            workspace_service_pb2.FileInfo(path=path)
            for session, path in sorted(self.files)
            if session == request.request.session
        ]
        return runner.ListFilesResponse(response=workspace_service_pb2.ListFilesResponse(files=found))

    async def DeleteFile(self, request: runner.DeleteFileRequest, _context: Any) -> runner.DeleteFileResponse:
        self.files.pop((request.request.session, request.request.path), None)
        return runner.DeleteFileResponse()

    async def DiffWorkspace(
        self, request: runner.DiffWorkspaceRequest, _context: Any
    ) -> runner.DiffWorkspaceResponse:
        paths = [path for session, path in sorted(self.files) if session == request.request.session]
        changes = [event_pb2.FileChange(path=path) for path in paths]
        return runner.DiffWorkspaceResponse(
            response=workspace_service_pb2.DiffWorkspaceResponse(changes=changes)
        )

    async def HibernateSandbox(
        self, request: runner.HibernateSandboxRequest, _context: Any
    ) -> runner.HibernateSandboxResponse:
        return runner.HibernateSandboxResponse()

    async def ListSandboxes(
        self, request: runner.ListSandboxesRequest, _context: Any
    ) -> runner.ListSandboxesResponse:
        found = [runner.Sandbox(session=name, state=state) for name, state in self.sandboxes.items()]
        return runner.ListSandboxesResponse(sandboxes=found)


class ScriptedModels(llm_service_pb2_grpc.LlmServiceServicer):
    """An llm-proxy that knows two models and answers with the prompt's words."""

    def __init__(self) -> None:
        self.known = {"demo/offline", "demo/other"}
        self.requests: list[llm.CreateMessageRequest] = []
        self.release = asyncio.Event()

    def as_servicer(self) -> Servicer:
        """Return what `servicekit.testing.serve` takes."""
        return Servicer(
            llm_service_pb2_grpc.add_LlmServiceServicer_to_server,
            self,
            llm.DESCRIPTOR.services_by_name["LlmService"],
        )

    async def ResolveModel(self, request: llm.ResolveModelRequest, _context: Any) -> llm.ResolveModelResponse:
        model = request.model or "demo/offline"
        if model not in self.known:
            names = ", ".join(sorted(self.known))
            raise Failure(
                errors_pb2.ERROR_REASON_MODEL_UNKNOWN,
                f"There is no model {model}; there are {names}.",
                model=model,
            )
        return llm.ResolveModelResponse(model=model)

    async def CreateMessage(
        self, request: llm.CreateMessageRequest, _context: Any
    ) -> AsyncIterator[llm.CreateMessageResponse]:
        self.requests.append(request)
        prompt = request.messages[-1].content[0].text
        if prompt.startswith("wait"):
            yield llm.CreateMessageResponse(text_delta="so far")
            await self.release.wait()
        if prompt.startswith("escalate") and request.tools:
            call = llm.ToolCall(id="c1", name=request.tools[0].name)
            call.input.update({"reason": "needs files"})
            yield llm.CreateMessageResponse(tool_call=call)
        else:
            yield llm.CreateMessageResponse(thinking_delta="hm")
            for word in ("You", " said: ", prompt):
                yield llm.CreateMessageResponse(text_delta=word)
        spent = turn_pb2.Usage(input_tokens=3, output_tokens=4, model_calls=1)
        done = llm.MessageFinished(stop_reason="end_turn", usage=spent, model=request.model)
        yield llm.CreateMessageResponse(finished=done)

    async def CountTokens(self, request: llm.CountTokensRequest, _context: Any) -> llm.CountTokensResponse:
        return llm.CountTokensResponse(input_tokens=1)

    async def IssueSessionToken(
        self, request: llm.IssueSessionTokenRequest, _context: Any
    ) -> llm.IssueSessionTokenResponse:
        return llm.IssueSessionTokenResponse(token="token")

    async def RevokeSessionToken(
        self, request: llm.RevokeSessionTokenRequest, _context: Any
    ) -> llm.RevokeSessionTokenResponse:
        return llm.RevokeSessionTokenResponse()
