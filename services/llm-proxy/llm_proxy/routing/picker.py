"""Which deployment of a model is asked next: LiteLLM's router decides where there is a choice."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from llm_proxy.configuration.models import Deployment, ModelsConfiguration
from llm_proxy.metrics import Metrics
from llm_proxy.routing.litellm_library import LitellmLibrary
from llm_proxy.upstreams.provider_failure import ProviderFailure

# Deployments are told apart by what the caller did wrong in none of these.
_NOT_ITS_FAULT: Final = frozenset({"request", "context", "policy"})


class Picker:
    """Chooses, by LiteLLM's strategies and cooldowns, and tells it how calls went."""

    def __init__(self, models: ModelsConfiguration, library: LitellmLibrary, metrics: Metrics) -> None:
        self._models = models
        self._library = library
        self._metrics = metrics
        self._by_id = {deployment.id: deployment for deployment in models.deployments}
        self._router: Any = None

    async def pick(self, model: str, places: Sequence[Deployment], tried: Collection[str]) -> Deployment:
        """Return where to ask next: of the places that can be asked, one not in `tried` if there is one.

        Raises ProviderFailure when all of them rest after failures.
        """
        usable = [place for place in places if not place.missing]
        if len(usable) == 1:
            return usable[0]
        router = await self._loaded()
        litellm = await self._library.loaded()
        # When all were tried, the one that failed longest ago may be well again.
        excluded = list(tried) if len(set(tried)) < len(usable) else []
        try:
            chosen = await router.async_get_available_deployment(
                model=model, request_kwargs={"_excluded_deployment_ids": excluded}, messages=None
            )
        except (ValueError, litellm.exceptions.APIError, litellm.exceptions.RateLimitError) as error:
            pause = getattr(error, "cooldown_time", None)
            raise ProviderFailure(
                "unavailable", 0, "every deployment rests after failures", float(pause) if pause else None
            ) from None
        return self._by_id[str(chosen["model_info"]["id"])]

    @contextmanager
    def calling(self, model: str, deployment: Deployment) -> Iterator[None]:
        """Count a call as under way while inside, and as failed when it raises ProviderFailure."""
        if self._router is None:
            yield
            return
        kwargs = _event(model, deployment)
        busy = getattr(self._router, "leastbusy_logger", None)
        if busy is not None:
            busy.log_pre_api_call(model, [], kwargs)
        try:
            yield
        except ProviderFailure as failure:
            if failure.kind not in _NOT_ITS_FAULT:
                self._failed({**kwargs, "exception": failure}, model, deployment)
            raise
        finally:
            if busy is not None:
                busy.log_success_event(kwargs, None, None, None)

    def _failed(self, event: Mapping[str, Any], model: str, deployment: Deployment) -> None:
        if self._router.deployment_callback_on_failure(event, None, None, None):
            self._metrics.rests(model, deployment.id)

    async def _loaded(self) -> Any:
        if self._router is None:
            litellm = await self._library.loaded()
            if self._router is None:
                self._router = _make_router(litellm, self._models)
        return self._router


def _event(model: str, deployment: Deployment) -> Mapping[str, Any]:
    """Return what LiteLLM's router wants to know of a call."""
    return {
        "litellm_params": {"metadata": {"model_group": model}, "model_info": {"id": deployment.id}},
        "model": deployment.model,
    }


def _make_router(litellm: Any, models: ModelsConfiguration) -> Any:
    settings = models.routing
    return litellm.Router(
        model_list=[
            {
                "model_name": deployment.group,
                # It only chooses; the credential stays with those that ask.
                "litellm_params": {
                    **{k: v for k, v in deployment.params.items() if k in ("weight", "order", "rpm", "tpm")},
                    "model": deployment.model,
                    "api_key": "unused",
                },
                "model_info": {"id": deployment.id},
            }
            for deployment in models.deployments
            if not deployment.missing
        ],
        routing_strategy=settings.strategy,
        num_retries=0,
        allowed_fails=settings.allowed_fails,
        cooldown_time=settings.cooldown_time,
        disable_cooldowns=settings.disable_cooldowns,
    )
