"""llm-proxy on real sockets, with what its callers need."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
from llm_proxy.app import RunningProxy, app
from llm_proxy.config import Config
from pointsman.llm.v1 import llm_service_pb2 as pb
from pointsman.llm.v1 import llm_service_pb2_grpc as rpc
from pointsman.llm.v1 import model_service_pb2 as models_pb
from pointsman.llm.v1 import model_service_pb2_grpc as models_rpc
from servicekit.testing import Keys, Started, passport_metadata, started, test_keys

# A provider's key that must show up nowhere.
CANARY = "sk-ant-canary-0123456789abcdef"


@dataclass
class Reply:
    """What came over HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()

    def comments(self, name: str) -> list[dict[str, Any]]:
        """Our own lines of a stream, such as `usage`."""
        head = f": pointsman-{name} "
        return [
            json.loads(line.removeprefix(head)) for line in self.text.split("\n") if line.startswith(head)
        ]

    def events(self) -> list[dict[str, Any]]:
        """The stream's events."""
        return [json.loads(line[5:]) for line in self.text.split("\n") if line.startswith("data:")]

    def said(self) -> str:
        """The stream's text."""
        return "".join(
            event["delta"].get("text", "") for event in self.events() if "index" in event and "delta" in event
        )


@dataclass
class ProxyHouse:
    """A running llm-proxy."""

    keys: Keys
    running: Started
    session: aiohttp.ClientSession
    url: str
    data_dir: Path
    issued: set[tuple[str, str]] = field(default_factory=set)
    """Tenants and sessions that tokens were given out for."""

    @property
    def llm(self) -> rpc.LlmServiceAsyncStub:
        return rpc.LlmServiceStub(self.running.channel)

    @property
    def models(self) -> models_rpc.ModelServiceAsyncStub:
        return models_rpc.ModelServiceStub(self.running.channel)

    def internal(self, tenant: str = "acme") -> Any:
        """Metadata of a call by one of our services."""
        return passport_metadata(self.keys.signer("session"), tenant=tenant, scopes={"internal"})

    def public(self, **passport: Any) -> Any:
        """Metadata of a call through the edge."""
        return passport_metadata(self.keys.signer("router"), **{"scopes": {"member"}, **passport})

    async def token(self, *, tenant: str = "acme", session: str = "", turn: str = "", **request: Any) -> str:
        """A session token."""
        session = session or f"sessions/{uuid.uuid4()}"
        self.issued.add((tenant, session))
        scope = pb.BillingScope(
            account="main", session=session, turn=turn or f"{session}/turns/{uuid.uuid4()}"
        )
        response = await self.llm.IssueSessionToken(
            pb.IssueSessionTokenRequest(scope=scope, **request), metadata=self.internal(tenant), timeout=60
        )
        return str(response.token)

    async def give_back(self) -> None:
        """Take all tokens back, as at the end of their turns: else a stop waits for those."""
        for tenant, session in self.issued:
            request = pb.RevokeSessionTokenRequest(session=session)
            with suppress(grpc.aio.AioRpcError):
                await self.llm.RevokeSessionToken(request, metadata=self.internal(tenant), timeout=60)

    async def post(self, path: str, body: Any, headers: Mapping[str, str]) -> Reply:
        """Send any request."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.session.post(f"{self.url}{path}", data=data, headers=headers) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Reply(response.status, headers, await response.read())

    async def ask(self, token: str, model: str, prompt: str = "Hello", **fields: Any) -> Reply:
        """Ask as the relay does."""
        body = {
            "model": model,
            "max_tokens": 100,
            "messages": [{"role": "user", "content": prompt}],
            **fields,
        }
        headers = {"authorization": f"Bearer {token}", "x-pointsman-usage": "1"}
        return await self.post("/v1/messages?beta=true", body, headers)

    async def usage(self, *group_by: int, tenant: str = "acme", **request: Any) -> list[models_pb.UsageRow]:
        """The ledger, added up."""
        response = await self.models.GetUsage(
            models_pb.GetUsageRequest(group_by=group_by, **request),  # type: ignore[arg-type]
            metadata=self.public(tenant=tenant),
            timeout=60,
        )
        return list(response.rows)


@asynccontextmanager
async def proxy_house(
    directory: Path, environ: Mapping[str, str] | None = None, models: str = "", **config: Any
) -> AsyncIterator[ProxyHouse]:
    """Run llm-proxy with this environment and models' file (empty: the one that is shipped)."""
    keys = test_keys(directory)
    if models:
        config["models_file"] = directory / "models.yaml"
        config["models_file"].write_text(models)
    settings = Config(
        **{
            "address": "127.0.0.1:0",
            "http_address": "127.0.0.1:0",
            "passport_keys": keys.jwks,
            "passport_key": keys.directory,
            "data_dir": directory / "data",
            **config,
        }
    )
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(started(partial(app, environ=environ or {}), settings))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        assert isinstance(running.server, RunningProxy)
        url = f"http://{running.server.http_address}"
        house = ProxyHouse(keys, running, session, url, directory / "data")
        yield house
        await house.give_back()


def behind(shape: str, url: str) -> tuple[str, dict[str, str]]:
    """A model's name, and the environment that puts a scripted provider behind it."""
    return {
        "groq": (
            "groq/openai/gpt-oss-120b",
            {"GROQ_API_KEY": "gsk-test-0123456", "GROQ_API_BASE": f"{url}/v1"},
        ),
        "openrouter": (
            "openrouter/some/model",
            {"OPENROUTER_API_KEY": "or-test-0123456", "OPENROUTER_API_BASE": f"{url}/v1"},
        ),
        "anthropic": (
            "anthropic/claude-sonnet-4-5",
            {"ANTHROPIC_API_KEY": "sk-ant-test-0123456", "ANTHROPIC_API_BASE": url},
        ),
    }[shape]
