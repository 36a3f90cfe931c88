"""`pointsman accounts`: how much of each goes on at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
from google.protobuf.field_mask_pb2 import FieldMask
from pointsman.session.v1 import account_service_pb2

from pointsman_client.cli.looking import ask, ask_all
from pointsman_client.cli.settings import State
from pointsman_client.cli.show import as_json, listing

_SECONDS = 30.0
app = typer.Typer(help="Accounts and their limits.", no_args_is_help=True)


@app.command("list")
def list_accounts(context: typer.Context) -> None:
    """List accounts by name, with what runs and waits in each."""
    state: State = context.obj
    request = account_service_pb2.ListAccountsRequest(page_size=200)
    found = ask_all(state, request, lambda client: client.accounts.ListAccounts, "accounts")
    columns: dict[str, Callable[[Any], object]] = {
        "ACCOUNT": lambda account: account.name.removeprefix("accounts/"),
        "AT ONCE": lambda account: account.effective_max_concurrent_turns,
        "RUNNING": lambda account: account.running_turns,
        "WAITING": lambda account: account.queued_turns,
    }
    listing(state, found, columns, "No accounts.")


@app.command()
def limit(
    context: typer.Context,
    account: Annotated[str, typer.Argument(help="The account.")],
    turns: Annotated[
        int, typer.Argument(min=0, max=1000, help="Turns at once; 0 for the installation's default.")
    ],
) -> None:
    """Set how many turns of an account run at once."""
    state: State = context.obj
    request = account_service_pb2.UpdateAccountRequest(
        account=account_service_pb2.Account(
            name=f"accounts/{account.removeprefix('accounts/')}", max_concurrent_turns=turns
        ),
        update_mask=FieldMask(paths=["max_concurrent_turns"]),
    )
    answer = ask(state, lambda client: client.accounts.UpdateAccount(request, timeout=_SECONDS))
    if state.json:
        as_json(state, answer.account)
