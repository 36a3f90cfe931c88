"""`pointsman sessions`, `models`, `usage`, `quota`, `audit`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from operator import attrgetter
from typing import Annotated, Any, TypeVar

import grpc.aio
import typer
from pointsman.llm.v1 import model_service_pb2
from pointsman.router.v1 import audit_service_pb2, router_service_pb2

from pointsman_client.cli.outcome import failures_told
from pointsman_client.cli.settings import State
from pointsman_client.cli.show import as_json, listing
from pointsman_client.client import AsyncClient
from pointsman_client.errors import from_rpc_error
from pointsman_client.sync import Client

Answer = TypeVar("Answer")

_SECONDS = 30.0
Account = Annotated[str, typer.Option(help="Only this account's.")]


def ask(state: State, call: Callable[[AsyncClient], Awaitable[Answer]]) -> Answer:
    """Make one unary call and return its answer; a failure ends the command."""
    with failures_told(state), Client(state.url, state.key) as client:

        async def made() -> Answer:
            return await AsyncClient.call(call(client.asynchronous))

        return client.run(made())


def ask_all(state: State, request: Any, method: Callable[[AsyncClient], Any], field: str) -> list[Any]:
    """Ask for a listing page by page; return what its answers have in `field`. A failure ends the command."""
    with failures_told(state), Client(state.url, state.key) as client:

        async def pages() -> list[Any]:
            found: list[Any] = []
            while True:
                answer = await AsyncClient.call(method(client.asynchronous)(request, timeout=_SECONDS))
                found += getattr(answer, field)
                request.page_token = answer.next_page_token
                if not request.page_token:
                    return found

        return client.run(pages())


def sessions(
    context: typer.Context,
    account: Account = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
) -> None:
    """List sessions, the one with the newest activity first."""
    state: State = context.obj
    with failures_told(state), Client(state.url, state.key) as client:
        found = [session for session, _ in zip(client.list_sessions(account), range(limit), strict=False)]
    columns: dict[str, Callable[[Any], object]] = {
        "SESSION": lambda session: session.name.removeprefix("sessions/"),
        "ACCOUNT": lambda session: session.account,
        "LAST ACTIVITY": lambda session: _time(session.last_activity_time),
        "TITLE": lambda session: session.title,
    }
    listing(state, found, columns, "No sessions.")


def models(context: typer.Context) -> None:
    """List the models that can be asked for by name."""
    state: State = context.obj
    request = model_service_pb2.ListModelsRequest()
    answer = ask(state, lambda client: client.models.ListModels(request, timeout=_SECONDS))
    columns: dict[str, Callable[[Any], object]] = {
        "MODEL": lambda model: model.name + (" (default)" if model.is_default else ""),
        "STATE": lambda model: "ready" if model.available else f"needs {model.missing_credential}",
        "ABOUT": lambda model: model.description,
    }
    listing(state, answer.models, columns, "No models.")


def usage(
    context: typer.Context,
    account: Account = "",
    by: Annotated[
        str, typer.Option(help="account, session, turn, model, provider, day; or several.")
    ] = "model",
) -> None:
    """Show what was used, and what it cost."""
    state: State = context.obj
    names = [name.strip() for name in by.split(",") if name.strip()]
    known = {
        key.removeprefix("USAGE_DIMENSION_").lower(): key
        for key, _ in model_service_pb2.UsageDimension.items()
    }
    unknown = [name for name in names if name not in known]
    if unknown:
        raise typer.BadParameter(f"there is no {unknown[0]!r}", param_hint="--by")
    dimensions = [model_service_pb2.UsageDimension.Value(known[name]) for name in names]
    request = model_service_pb2.GetUsageRequest(account=account, group_by=dimensions)
    answer = ask(state, lambda client: client.models.GetUsage(request, timeout=_SECONDS))
    columns: dict[str, Callable[[Any], object]] = {
        **{name.upper(): attrgetter(name) for name in names},
        "CALLS": lambda row: row.usage.model_calls,
        "INPUT": lambda row: row.usage.input_tokens,
        "OUTPUT": lambda row: row.usage.output_tokens,
        "USD": lambda row: f"{row.usage.cost_usd:.4f}",
    }
    listing(state, answer.rows, columns, "Nothing was used.")


def quota(context: typer.Context, account: Account = "") -> None:
    """Show the limits and what is left of them."""
    state: State = context.obj
    request = router_service_pb2.GetQuotaRequest(account=account)
    answer = ask(state, lambda client: client.router.GetQuota(request, timeout=_SECONDS))
    columns: dict[str, Callable[[Any], object]] = {
        "LIMIT": lambda one: one.name.replace("_", " "),
        "OF": lambda one: one.scope,
        "LEFT": lambda one: f"{one.remaining} of {one.limit}",
        "PER": lambda one: f"{one.window.seconds} s" if one.HasField("window") else "at once",
    }
    listing(state, answer.quotas, columns, "Nothing is limited.")


def audit(
    context: typer.Context,
    account: Account = "",
    resource: Annotated[str, typer.Option(help="Only on this resource and what is below it.")] = "",
    export: Annotated[bool, typer.Option(help="All of it, oldest first, as JSON lines.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
) -> None:
    """Show who did what, newest first."""
    state: State = context.obj
    wanted = audit_service_pb2.AuditFilter(account=account, resource=resource)
    if export:
        with failures_told(state), Client(state.url, state.key) as client:
            for entry in client.iterate(_exported(client.asynchronous, wanted)):
                as_json(state, entry)
        return
    request = audit_service_pb2.ListAuditEntriesRequest(filter=wanted, page_size=limit)
    answer = ask(state, lambda client: client.audit.ListAuditEntries(request, timeout=_SECONDS))
    columns: dict[str, Callable[[Any], object]] = {
        "WHEN": lambda entry: _time(entry.create_time),
        "WHO": lambda entry: entry.principal or "nobody",
        "WHAT": lambda entry: entry.method.rpartition(".")[2],
        "ON": lambda entry: entry.resource,
        "FROM": lambda entry: entry.source_address,
        "OUTCOME": lambda entry: entry.reason or entry.code,
    }
    listing(state, answer.entries, columns, "Nothing has happened.")


async def _exported(client: AsyncClient, wanted: audit_service_pb2.AuditFilter) -> Any:
    request = audit_service_pb2.ExportAuditEntriesRequest(filter=wanted)
    try:
        async for answer in client.audit.ExportAuditEntries(request):
            yield answer.entry
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from None


def _time(timestamp: Any) -> str:
    return timestamp.ToDatetime().strftime("%Y-%m-%d %H:%M:%S") if timestamp.seconds else ""
