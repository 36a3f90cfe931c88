"""For tests of services, and shipped for that: keys, passports and servers on real sockets at port 0."""

from __future__ import annotations

import asyncio
import inspect
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import grpc.aio

from servicekit.access import ACCESS, Access
from servicekit.channels import service_channel
from servicekit.config import Config
from servicekit.drain import Drain
from servicekit.interceptors.admission import Credentials
from servicekit.keys import create_keys
from servicekit.metadata import CallMetadata, call_metadata
from servicekit.passport import SERVICE_ISSUERS, Passport, PassportSigner, PassportVerifier
from servicekit.retries import IDEMPOTENT
from servicekit.serving import RunningServer, Servicer, serving

_POLL_SECONDS = 0.005
# Below what Linux gives to outgoing connections and the supervisor to services; so many that two hardly meet.
_PORTS = (10_240, 20_000)


@dataclass(frozen=True)
class Keys:
    """Keys of all services, on disk as `make run` makes them."""

    directory: Path
    """What POINTSMAN_PASSPORT_KEY is set to."""
    jwks: Path
    """What POINTSMAN_PASSPORT_KEYS is set to."""

    def signer(self, issuer: str = "router") -> PassportSigner:
        """Return a signer with the issuer's key."""
        return PassportSigner.from_directory(self.directory, issuer)

    @property
    def verifier(self) -> PassportVerifier:
        """A fresh verifier that knows every issuer."""
        return PassportVerifier.from_file(self.jwks)


def test_keys(tmp_path: Path, issuers: Iterable[str] = SERVICE_ISSUERS) -> Keys:
    """Make keys for the issuers below `tmp_path`."""
    directory = tmp_path / "keys"
    return Keys(directory, create_keys(directory, issuers))


# The name begins as pytest's tests do, and pytest looks at what a test module imports.
test_keys.__test__ = False  # type: ignore[attr-defined]


def passport_metadata(
    signer: PassportSigner,
    *,
    tenant: str = "acme",
    account: str | None = None,
    principal: str = "tester",
    scopes: Iterable[str] = ("admin",),
    ttl: timedelta = timedelta(seconds=60),
    request_id: str = "test-request",
) -> CallMetadata:
    """Return the metadata of a call by this caller; `scopes={"internal"}` for one by a service."""
    passport = Passport(tenant, account, principal, frozenset(scopes), credential="key-1")
    return call_metadata(signer.sign(passport, ttl), request_id)


@dataclass(frozen=True)
class Started:
    """A server that runs, and a channel to it."""

    server: RunningServer
    channel: grpc.aio.Channel
    drain: Drain


@asynccontextmanager
async def started(
    app: Callable[[Config, Drain], AbstractAsyncContextManager[RunningServer]],
    config: Config,
    *,
    signer: PassportSigner | None = None,
) -> AsyncIterator[Started]:
    """Run a service's `app` as its `__main__` would, with a channel to it."""
    drain = Drain()
    async with app(config, drain) as server, service_channel(server.address, signer=signer) as channel:
        yield Started(server, channel, drain)


@asynccontextmanager
async def serve(
    *servicers: Servicer,
    keys: Keys,
    service: str = "test",
    credentials: Credentials | None = None,
    access: Mapping[str, Access] = ACCESS,
    grace: float = 5.0,
    signer: PassportSigner | None = None,
    idempotent: Mapping[str, Sequence[str]] = IDEMPOTENT,
) -> AsyncIterator[Started]:
    """Serve servicers, such as a peer's fake, on a free port of loopback, with a channel to them."""
    drain = Drain()
    async with (
        serving(
            service=service,
            address="127.0.0.1:0",
            servicers=servicers,
            verifier=keys.verifier,
            credentials=credentials,
            drain=drain,
            grace=grace,
            access=access,
        ) as server,
        service_channel(server.address, signer=signer, idempotent=idempotent) as channel,
    ):
        yield Started(server, channel, drain)


async def wait_until(condition: Callable[[], bool | Awaitable[bool]], timeout: float = 60.0) -> None:
    """Return as soon as the condition holds; TimeoutError when it does not within `timeout` seconds."""
    async with asyncio.timeout(timeout):
        while True:
            holds = condition()
            if inspect.isawaitable(holds):
                holds = await holds
            if holds:
                return
            await asyncio.sleep(_POLL_SECONDS)


def free_port() -> int:
    """Return a port that was free a moment ago, and that no outgoing connection gets meanwhile.

    Prefer port 0 where the answer can be asked for.
    """
    while True:
        port = random.randrange(*_PORTS)  # noqa: S311 - spread, not secrecy
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
