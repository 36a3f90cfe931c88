"""`pointsman run` and `pointsman chat`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any

import typer
from pointsman.router.v1 import router_service_pb2
from pointsman.session.v1 import turn_pb2

from pointsman_client.cli.outcome import TURN_FAILED, failures_told
from pointsman_client.cli.settings import State
from pointsman_client.cli.show import TurnPrinter
from pointsman_client.sync import Client

Session = Annotated[str, typer.Option(help="Go on in this session: its name or UUID.")]
Account = Annotated[str, typer.Option(help="The account it is for.")]
Model = Annotated[str, typer.Option(help="provider/name.")]

_ROUTES = {
    "auto": turn_pb2.TURN_ROUTE_UNSPECIFIED,
    "direct": turn_pb2.TURN_ROUTE_DIRECT,
    "agent": turn_pb2.TURN_ROUTE_AGENT,
}


def run(
    context: typer.Context,
    *,
    prompt: Annotated[str, typer.Argument(help="The prompt; - reads it from standard input.")],
    session: Session = "",
    account: Account = "",
    model: Model = "",
    template: Annotated[str, typer.Option(help="Begin a session from this template.")] = "",
    route: Annotated[str, typer.Option(help="auto, direct or agent.")] = "auto",
    max_turns: Annotated[int | None, typer.Option(help="Calls to the model at most.", min=1)] = None,
    max_output_tokens: Annotated[
        int | None, typer.Option(help="Tokens that a direct answer may have.", min=1)
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the answer only.")] = False,
) -> None:
    """Run one prompt and show what happens. It goes on where it was when the connection breaks."""
    state: State = context.obj
    if route not in _ROUTES:
        raise typer.BadParameter("is auto, direct or agent", param_hint="--route")
    if template and session:
        raise typer.BadParameter("is for a new session; leave --session out", param_hint="--template")
    options = turn_pb2.TurnOptions()
    if max_turns is not None:
        options.max_turns = max_turns
    if max_output_tokens is not None:
        options.max_output_tokens = max_output_tokens
    text = sys.stdin.read() if prompt == "-" else prompt
    with failures_told(state), Client(state.url, state.key) as client:
        if template:
            session = client.create_session(account, template=template_name(template)).name
        fields = {"account": account, "model": model, "options": options, "route": _ROUTES[route]}
        finished, _ = _one_turn(client, TurnPrinter(state, quiet=quiet), text, session, **fields)
    if finished.outcome != turn_pb2.TURN_STATE_SUCCEEDED:
        raise typer.Exit(TURN_FAILED)


def chat(context: typer.Context, session: Session = "", account: Account = "", model: Model = "") -> None:
    """Talk with an agent, line by line. Ctrl-C cancels the turn; Ctrl-D leaves."""
    state: State = context.obj
    with failures_told(state), Client(state.url, state.key) as client:
        name = session
        while True:
            try:
                text = state.out.input("[bold]> [/bold]")
            except EOFError:
                break
            if not text.strip():
                continue
            _, name = _one_turn(client, TurnPrinter(state), text, name, account=account, model=model)
        if name:
            state.err.print(f"Go on with: pointsman chat --session {name}", style="dim", highlight=False)


def _one_turn(
    client: Client, printer: TurnPrinter, prompt: str, session: str, **fields: Any
) -> tuple[turn_pb2.TurnFinished, str]:
    """Run a turn to its end; Ctrl-C asks to cancel it and waits on. Returns the end and the session."""
    request = router_service_pb2.StartTurnRequest(prompt=prompt, session=session_name(session), **fields)
    turn = client.start_turn(request)
    with _cancelled_by_ctrl_c(client, turn):
        for event in client.follow_turn(turn):
            printer.show(event)
            if event.HasField("turn_finished"):
                return event.turn_finished, turn.session
    raise AssertionError("a turn's events end with turn_finished, or with an error")


@contextmanager
def _cancelled_by_ctrl_c(client: Client, turn: turn_pb2.Turn) -> Iterator[None]:
    """Let Ctrl-C ask for the turn's cancellation, while its events go on to the end.

    By a handler, not by KeyboardInterrupt: that lands between any two lines, also where a step is handed
    over.
    """

    def told(asked: Future[Any]) -> None:
        if error := asked.exception():
            print(f"The turn could not be cancelled: {error}. Press Ctrl-C to try again.", file=sys.stderr)

    async def ask() -> None:
        # Made on the client's own loop, to which gRPC's calls belong.
        request = router_service_pb2.CancelTurnRequest(name=turn.name)
        await client.asynchronous.call(client.asynchronous.router.CancelTurn(request, timeout=10))

    def cancel(_number: int, _frame: FrameType | None) -> None:
        client.submit(ask()).add_done_callback(told)

    before = signal.signal(signal.SIGINT, cancel)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def template_name(given: str) -> str:
    """Return `templates/{id}` for a template's name or id."""
    return given if given.startswith("templates/") else f"templates/{given}"


def session_name(given: str) -> str:
    """Return `sessions/{uuid}` for a session's name or UUID; empty for empty."""
    return f"sessions/{given}" if given and not given.startswith("sessions/") else given
