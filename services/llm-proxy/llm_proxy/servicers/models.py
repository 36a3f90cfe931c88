"""ModelService: what models there are, and what the tenant has used."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import grpc.aio
from pointsman.errors.v1 import errors_pb2
from pointsman.llm.v1 import model_service_pb2 as pb
from pointsman.llm.v1 import model_service_pb2_grpc
from servicekit.context import account_of, current_passport
from servicekit.errors import Failure

from llm_proxy.catalogue import Catalogue, CatalogueModel
from llm_proxy.ledger.database import Database
from llm_proxy.ledger.money import dollars
from llm_proxy.ledger.reports import UsageFilter, report

_DEFAULT_PAGE: Final = 200
_MILLION: Final = 1_000_000
_DAY_SECONDS: Final = 86_400

_DIMENSIONS: Final = {
    pb.USAGE_DIMENSION_ACCOUNT: "account",
    pb.USAGE_DIMENSION_SESSION: "session",
    pb.USAGE_DIMENSION_TURN: "turn",
    pb.USAGE_DIMENSION_MODEL: "model",
    pb.USAGE_DIMENSION_PROVIDER: "provider",
    pb.USAGE_DIMENSION_DAY: "day",
}

_Context = grpc.aio.ServicerContext[Any, Any]


class ModelServicer(model_service_pb2_grpc.ModelServiceServicer):
    """Serves ModelService."""

    def __init__(self, catalogue: Catalogue, database: Database) -> None:
        self._catalogue = catalogue
        self._database = database

    async def ListModels(self, request: pb.ListModelsRequest, context: _Context) -> pb.ListModelsResponse:
        """List the models."""
        models = self._catalogue.models()
        first = _position(request.page_token, len(models))
        end = first + (request.page_size or _DEFAULT_PAGE)
        return pb.ListModelsResponse(
            models=[_model(model) for model in models[first:end]],
            next_page_token=str(end) if end < len(models) else "",
            wildcards=self._catalogue.wildcards,
        )

    async def GetUsage(self, request: pb.GetUsageRequest, context: _Context) -> pb.GetUsageResponse:
        """Add up usage. A caller that is pinned to an account sees only that one."""
        passport = current_passport()
        account = account_of(request.account) if request.account or passport.account else ""
        wanted = UsageFilter(
            tenant=passport.tenant,
            account=account,
            session=request.session,
            turn=request.turn,
            start_time=request.start_time.ToMicroseconds() / 1e6 if request.HasField("start_time") else None,
            end_time=request.end_time.ToMicroseconds() / 1e6 if request.HasField("end_time") else None,
        )
        rows = await report(
            self._database, wanted, [_DIMENSIONS[dimension] for dimension in request.group_by]
        )
        return pb.GetUsageResponse(rows=[_row(row) for row in rows])


def _position(token: str, count: int) -> int:
    if not token:
        return 0
    if not (token.isascii() and token.isdigit() and len(token) < 6 and int(token) < count):
        raise Failure(
            errors_pb2.ERROR_REASON_PAGE_TOKEN_INVALID,
            "page_token: was not given out for this listing. Leave it out to begin anew.",
            fields=[("page_token", "was not given out for this listing")],
        )
    return int(token)


def _model(model: CatalogueModel) -> pb.Model:
    return pb.Model(
        name=model.name,
        display_name=model.display_name,
        provider=model.provider,
        available=model.available,
        missing_credential=model.missing_credential,
        supports_tools=model.price.tools,
        context_window=model.price.context_window,
        input_price_per_million_usd=dollars(model.price.input * _MILLION),
        output_price_per_million_usd=dollars(model.price.output * _MILLION),
        is_default=model.is_default,
        description=model.description,
        priced=model.price.known,
    )


def _row(row: Mapping[str, Any]) -> pb.UsageRow:
    sums = pb.UsageRow(
        **{name: row[name] for name in ("account", "session", "turn", "model", "provider") if name in row},
        failed_calls=row["failed"],
        retries=row["retries"],
        mean_latency_seconds=row["latency"] or 0.0,
        mean_first_token_seconds=row["first_token"] or 0.0,
    )
    if "day" in row:
        sums.day = datetime.fromtimestamp(int(row["day"]) * _DAY_SECONDS, UTC).strftime("%Y-%m-%d")
    sums.usage.input_tokens = row["input_tokens"]
    sums.usage.output_tokens = row["output_tokens"]
    sums.usage.cache_read_tokens = row["cache_read_tokens"]
    sums.usage.cache_write_tokens = row["cache_write_tokens"]
    sums.usage.cost_usd = dollars(row["cost"])
    sums.usage.model_calls = row["calls"]
    sums.usage.estimated_calls = row["estimated"]
    return sums
