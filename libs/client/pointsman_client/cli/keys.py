"""`pointsman keys`: API keys."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from pointsman.router.v1 import key_service_pb2

from pointsman_client.cli.looking import ask, ask_all
from pointsman_client.cli.settings import State
from pointsman_client.cli.show import as_json, listing

_SECONDS = 30.0
_ROLES = ("viewer", "member", "operator", "admin", "owner")
app = typer.Typer(help="API keys: make, list, revoke.", no_args_is_help=True)


@app.command()
def create(
    context: typer.Context,
    *,
    title: Annotated[str, typer.Argument(help="A line for people.")] = "",
    role: Annotated[str, typer.Option(help=", ".join(_ROLES) + ".")] = "",
    scope: Annotated[
        list[str] | None, typer.Option(help="A scope, such as turns.run; may be repeated.")
    ] = None,
    account: Annotated[str, typer.Option(help="The one account that it acts in.")] = "",
    tenant: Annotated[str, typer.Option(help="The tenant it is for. Default: yours.")] = "",
    days: Annotated[float | None, typer.Option(min=0.001, help="Days until it ends. Default: never.")] = None,
) -> None:
    """Make a key and print it. It is shown this once."""
    state: State = context.obj
    if role and role not in _ROLES:
        raise typer.BadParameter(f"is one of {', '.join(_ROLES)}", param_hint="--role")
    key = key_service_pb2.Key(
        title=title,
        role=key_service_pb2.KeyRole.Value(f"KEY_ROLE_{(role or 'unspecified').upper()}"),
        scopes=scope or [],
        account=account,
        tenant=tenant,
        expire_time=None if days is None else _in(timedelta(days=days)),
    )
    request = key_service_pb2.CreateKeyRequest(key=key)
    made = ask(state, lambda client: client.keys.CreateKey(request, timeout=_SECONDS))
    if state.json:
        as_json(state, made)
        return
    state.err.print(f"{made.key.name}, shown this once:", style="dim", highlight=False)
    state.out.print(made.secret, markup=False, highlight=False, soft_wrap=True)


@app.command("list")
def list_keys(context: typer.Context) -> None:
    """List keys, newest first."""
    state: State = context.obj
    request = key_service_pb2.ListKeysRequest(page_size=200)
    found = ask_all(state, request, lambda client: client.keys.ListKeys, "keys")
    columns: dict[str, Callable[[Any], object]] = {
        "KEY": lambda key: key.name.removeprefix("keys/"),
        "ROLE": lambda key: " ".join([key_service_pb2.KeyRole.Name(key.role)[9:].lower(), *key.scopes]),
        "ACCOUNT": lambda key: key.account or "every",
        "STATE": _state,
        "TITLE": lambda key: key.title,
    }
    listing(state, found, columns, "No keys but the one in the environment.")


@app.command()
def revoke(
    context: typer.Context, key: Annotated[str, typer.Argument(help="The key's name or id, not its secret.")]
) -> None:
    """Take a key back, for ever."""
    state: State = context.obj
    request = key_service_pb2.RevokeKeyRequest(name=f"keys/{key.removeprefix('keys/')}")
    answer = ask(state, lambda client: client.keys.RevokeKey(request, timeout=_SECONDS))
    if state.json:
        as_json(state, answer.key)


def _state(key: Any) -> str:
    if key.HasField("revoke_time"):
        return "revoked"
    if not key.HasField("expire_time"):
        return "valid"
    ends = key.expire_time.ToDatetime(tzinfo=UTC)
    return "expired" if ends <= datetime.now(UTC) else f"until {ends:%Y-%m-%d}"


def _in(span: timedelta) -> Timestamp:
    moment = Timestamp()
    moment.FromDatetime(datetime.now(UTC) + span)
    return moment
