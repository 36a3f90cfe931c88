"""`pointsman files`: a session's workspace."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from pointsman.session.v1 import workspace_service_pb2

from pointsman_client.cli.looking import ask, ask_all
from pointsman_client.cli.outcome import failures_told
from pointsman_client.cli.settings import State
from pointsman_client.cli.show import as_json, listing
from pointsman_client.cli.turns import session_name
from pointsman_client.sync import Client

_SECONDS = 30.0
app = typer.Typer(help="A session's files.", no_args_is_help=True)
Session = Annotated[str, typer.Argument(help="The session: its name or UUID.")]


@app.command("list")
def list_files(
    context: typer.Context, session: Session, path: Annotated[str, typer.Argument(help="A folder.")] = ""
) -> None:
    """List files, those in folders too."""
    state: State = context.obj
    request = workspace_service_pb2.ListFilesRequest(
        session=session_name(session), path=path, recursive=True, page_size=1000
    )
    found = ask_all(state, request, lambda client: client.workspace.ListFiles, "files")
    columns: dict[str, Callable[[Any], object]] = {
        "PATH": lambda file: (
            file.path + ("/" if file.type == workspace_service_pb2.FILE_TYPE_DIRECTORY else "")
        ),
        "BYTES": lambda file: file.size_bytes or "",
    }
    listing(state, found, columns, "No files.")


@app.command()
def get(
    context: typer.Context,
    session: Session,
    path: Annotated[str, typer.Argument(help="The file.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write it there.")] = None,
) -> None:
    """Print a file, or write it to this machine."""
    state: State = context.obj
    with failures_told(state), Client(state.url, state.key) as client:
        data = client.read_file(session_name(session), path)
    if output is not None:
        output.write_bytes(data)
        return
    sys.stdout.buffer.write(data)
    sys.stdout.flush()


@app.command()
def put(
    context: typer.Context,
    session: Session,
    source: Annotated[Path, typer.Argument(help="A file on this machine.", exists=True, dir_okay=False)],
    path: Annotated[str, typer.Argument(help="Its path in the workspace. Default: its name.")] = "",
) -> None:
    """Copy a file of this machine into the workspace."""
    state: State = context.obj
    request = workspace_service_pb2.WriteFileRequest(
        session=session_name(session), path=path or source.name, data=source.read_bytes()
    )
    answer = ask(state, lambda client: client.workspace.WriteFile(request, timeout=_SECONDS))
    if state.json:
        as_json(state, answer.file)
