"""`GET /v1/models` and `HEAD /`, as agents ask before they begin."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from servicekit.access import Access

from llm_proxy.catalogue import Catalogue, CatalogueModel
from llm_proxy.http.identity import Identity

ONE_MODEL: Final = "/v1/models/"
"""The path of one model begins so, and ends with its name."""


class ModelsRoutes:
    """What agents want to know before they ask a model."""

    def __init__(self, catalogue: Catalogue, identity: Identity) -> None:
        self._catalogue = catalogue
        self._identity = identity

    async def list_models(self, http: web.BaseRequest) -> web.Response:
        """List the models that can be asked now, in Anthropic's shape, on one page."""
        await self._identity.caller(http.headers, Access.MODELS_READ)
        data = [_entry(model) for model in self._catalogue.models() if model.available]
        return web.json_response(
            {
                "data": data,
                "has_more": False,
                "first_id": data[0]["id"] if data else None,
                "last_id": data[-1]["id"] if data else None,
            }
        )

    async def get_model(self, http: web.BaseRequest) -> web.Response:
        """Return one model, also one that a wildcard stands for. Raises Failure as `Catalogue.resolve`."""
        await self._identity.caller(http.headers, Access.MODELS_READ)
        return web.json_response(_entry(self._catalogue.model(http.path.removeprefix(ONE_MODEL))))

    async def root(self, _: web.BaseRequest) -> web.Response:
        """Say that somebody is here."""
        return web.Response()


def _entry(model: CatalogueModel) -> dict[str, object]:
    return {
        "type": "model",
        "id": model.name,
        "display_name": model.display_name,
        # Anthropic's SDK expects a time; when a provider published a model is not known here.
        "created_at": "1970-01-01T00:00:00Z",
        "max_input_tokens": model.price.context_window or None,
    }
