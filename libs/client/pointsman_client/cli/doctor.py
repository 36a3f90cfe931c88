"""`pointsman doctor`: is it there, is it well, am I let in, can it answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import typer
from pointsman.llm.v1 import model_service_pb2
from pointsman.router.v1 import router_service_pb2
from pointsman.system.v1 import system_service_pb2

from pointsman_client.cli.settings import State
from pointsman_client.cli.show import as_line
from pointsman_client.client import AsyncClient
from pointsman_client.errors import PointsmanError
from pointsman_client.sync import Client

_SECONDS = 5.0
Check = Callable[[AsyncClient], Awaitable[str]]


def doctor(context: typer.Context) -> None:
    """Look whether everything is well; exit code 6 when it is not."""
    state: State = context.obj
    checks: Sequence[tuple[str, Check]] = (
        (f"reachable at {state.url}", _healthy),
        ("the key is good", _let_in),
        ("a model can answer", _has_model),
    )
    well = True
    with Client(state.url, state.key) as client:
        for name, check in checks:
            told, good = client.run(_told(client.asynchronous, check))
            well = well and good
            if state.json:
                as_line(state, {"check": name, "ok": good, "detail": told})
            else:
                mark = "[green]ok[/green]  " if good else "[red]no[/red]  "
                state.out.print(mark, end="")
                state.out.print(f"{name}: {told}", markup=False, highlight=False, soft_wrap=True)
    if not well:
        raise typer.Exit(6)


async def _told(client: AsyncClient, check: Check) -> tuple[str, bool]:
    try:
        return await check(client), True
    except PointsmanError as error:
        return error.message, False


async def _healthy(client: AsyncClient) -> str:
    request = system_service_pb2.GetHealthRequest()
    health: Any = await client.call(client.system.GetHealth(request, timeout=_SECONDS))
    sick = [one.service for one in health.services if one.status != "healthy"]
    if sick:
        raise PointsmanError(f"not well: {', '.join(sick)}")
    return ", ".join(one.service for one in health.services)


async def _let_in(client: AsyncClient) -> str:
    request = router_service_pb2.GetQuotaRequest()
    await client.call(client.router.GetQuota(request, timeout=_SECONDS))
    return "it is let in"


async def _has_model(client: AsyncClient) -> str:
    request = model_service_pb2.ListModelsRequest()
    answer: Any = await client.call(client.models.ListModels(request, timeout=_SECONDS))
    ready = [model.name for model in answer.models if model.available]
    if not ready:
        raise PointsmanError("no provider has a credential")
    default = next((model for model in answer.models if model.is_default), None)
    return f"{default.name if default else ready[0]}, {len(ready)} ready"
