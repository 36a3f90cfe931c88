"""`pointsman triage explain`: where a prompt would go, by the rules on this machine, without a service."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from pointsman_client.cli.settings import State
from pointsman_client.cli.show import as_line

app = typer.Typer(help="Try the rules that say where prompts go.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `explain` a command of its own, although it is the only one."""


@app.command()
def explain(
    context: typer.Context,
    *,
    prompt: Annotated[str, typer.Argument(help="The prompt.")],
    config: Annotated[
        Path | None,
        typer.Option(
            envvar="POINTSMAN_ROUTER_CONFIG", help="The router's YAML. Default: the packaged rules."
        ),
    ] = None,
    account: Annotated[str, typer.Option(help="As if it came from this account.")] = "default",
    session: Annotated[bool, typer.Option(help="As if it went on with a session.")] = False,
    tool: Annotated[list[str] | None, typer.Option(help="As if this tool were asked for.")] = None,
    context_of: Annotated[
        list[str] | None, typer.Option("--context", help="As if it had this context.")
    ] = None,
) -> None:
    """Say where a prompt would go and why. No model is asked: where one would be, it says so."""
    state: State = context.obj
    try:
        # The router is not needed for anything else here, and not everywhere where this command is.
        from router.settings import load_settings  # noqa: PLC0415
        from router.triage.decision import Question  # noqa: PLC0415
        from router.triage.triage import Triage  # noqa: PLC0415
        from servicekit.config import ConfigError  # noqa: PLC0415
    except ImportError:
        raise typer.BadParameter(
            "the router's package is not installed here: pip install pointsman-router"
        ) from None
    try:
        settings = load_settings(config).triage
    except ConfigError as error:
        state.err.print(str(error), markup=False, highlight=False)
        raise typer.Exit(2) from None
    question = Question(
        prompt=prompt,
        account=account,
        session=session,
        tools=tuple(tool or ()),
        context=frozenset(context_of or ()),
    )
    decision = asyncio.run(Triage(settings, None).decide(question))
    model = settings.model.model if decision.decided_by == "default" and settings.model else ""
    found = {
        "outcome": decision.outcome.value,
        "decided_by": decision.decided_by,
        "reason": decision.reason,
        **({"model_asked_first": model} if model else {}),
    }
    if state.json:
        as_line(state, found)
        return
    first = f"{model} would be asked; without it: " if model else ""
    told = f"{first}{found['outcome']}, by {found['decided_by']}. {found['reason']}"
    state.out.print(told, markup=False, soft_wrap=True)
