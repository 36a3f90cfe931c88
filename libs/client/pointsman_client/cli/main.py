"""`pointsman`: run agents from the shell."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from pointsman_client.cli import accounts, doctor, files, keys, looking, snapshots, templates, triage, turns
from pointsman_client.cli.settings import DEFAULT_URL, State, find_key

app = typer.Typer(
    help="Run agents on Pointsman. Exit codes: 0 done, 1 the turn failed, 2 wrong request, 3 not allowed, "
    "4 not there or in conflict, 5 a limit, 6 not reachable, 7 a fault of the installation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def options(
    context: typer.Context,
    url: Annotated[
        str, typer.Option(envvar="POINTSMAN_URL", help="Where the installation is.")
    ] = DEFAULT_URL,
    key: Annotated[
        str,
        typer.Option(help="API key or token; better in POINTSMAN_API_KEY, where `ps` does not show it."),
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")] = False,
) -> None:
    """Take what goes before the command."""
    out = Console()
    if not out.is_terminal:
        # A pipe has no width, and what it carries must not be folded.
        out = Console(width=240)
    context.obj = State(
        url=url, key=find_key(key), json=json, out=out, err=Console(stderr=True, soft_wrap=True)
    )


app.command()(turns.run)
app.command()(turns.chat)
app.command("sessions")(looking.sessions)
app.command("models")(looking.models)
app.command("usage")(looking.usage)
app.command("quota")(looking.quota)
app.command("audit")(looking.audit)
app.command("doctor")(doctor.doctor)
app.add_typer(files.app, name="files")
app.add_typer(snapshots.app, name="snapshots")
app.add_typer(templates.app, name="templates")
app.add_typer(accounts.app, name="accounts")
app.add_typer(keys.app, name="keys")
app.add_typer(triage.app, name="triage")


def main() -> None:
    """Run the command line."""
    app()
