"""`pointsman snapshots`: a session's files as they were."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Annotated, Any

import typer
from pointsman.session.v1 import workspace_service_pb2

from pointsman_client.cli.looking import ask, ask_all
from pointsman_client.cli.settings import State
from pointsman_client.cli.show import as_json, listing
from pointsman_client.cli.turns import session_name

# The service copies for at most so long.
_SECONDS = 310.0
app = typer.Typer(help="Snapshots of a session's files: make, list, restore, delete.", no_args_is_help=True)
Session = Annotated[str, typer.Argument(help="The session: its name or UUID.")]
Name = Annotated[str, typer.Argument(help="The snapshot: sessions/UUID/snapshots/UUID.")]


@app.command()
def create(
    context: typer.Context,
    session: Session,
    title: Annotated[str, typer.Option(help="A line for people.")] = "",
) -> None:
    """Keep the files as they are now, and print the snapshot's name."""
    state: State = context.obj
    request = workspace_service_pb2.CreateSnapshotRequest(
        session=session_name(session), title=title, request_id=str(uuid.uuid4())
    )
    made = ask(state, lambda client: client.workspace.CreateSnapshot(request, timeout=_SECONDS))
    if state.json:
        as_json(state, made.snapshot)
    else:
        typer.echo(made.snapshot.name)


@app.command("list")
def list_snapshots(context: typer.Context, session: Session) -> None:
    """List snapshots, newest first."""
    state: State = context.obj
    request = workspace_service_pb2.ListSnapshotsRequest(session=session_name(session), page_size=200)
    found = ask_all(state, request, lambda client: client.workspace.ListSnapshots, "snapshots")
    columns: dict[str, Callable[[Any], object]] = {
        "SNAPSHOT": lambda snapshot: snapshot.name,
        "BYTES": lambda snapshot: snapshot.size_bytes,
        "TITLE": lambda snapshot: snapshot.title,
    }
    listing(state, found, columns, "No snapshots.")


@app.command()
def restore(context: typer.Context, name: Name) -> None:
    """Make the files what they were. No turn may be running."""
    state: State = context.obj
    request = workspace_service_pb2.RestoreSnapshotRequest(name=name)
    ask(state, lambda client: client.workspace.RestoreSnapshot(request, timeout=_SECONDS))


@app.command()
def delete(context: typer.Context, name: Name) -> None:
    """Delete a snapshot. Sessions and templates that were made from it keep their files."""
    state: State = context.obj
    request = workspace_service_pb2.DeleteSnapshotRequest(name=name)
    ask(state, lambda client: client.workspace.DeleteSnapshot(request, timeout=_SECONDS))
