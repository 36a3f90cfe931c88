"""The channel to an installation's edge."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, cast
from urllib.parse import urlsplit

import grpc
import grpc.aio

from pointsman_client.errors import InvalidRequest

Continue = Callable[[Any, Any], Awaitable[Any]]

# Only methods that change nothing are tried again below us; the rest we do ourselves, with their request id.
_READING: Final = (
    (
        "pointsman.session.v1.SessionService",
        ("GetSession", "ListSessions", "ListTurns", "GetTurn", "ListEvents"),
    ),
    ("pointsman.session.v1.WorkspaceService", ("ListFiles", "DiffWorkspace", "ListSnapshots")),
    ("pointsman.session.v1.TemplateService", ("GetTemplate", "ListTemplates")),
    ("pointsman.session.v1.AccountService", ("GetAccount", "ListAccounts")),
    ("pointsman.llm.v1.ModelService", ()),
    ("pointsman.router.v1.RouterService", ("GetQuota",)),
    ("pointsman.router.v1.KeyService", ("ListKeys",)),
    ("pointsman.router.v1.AuditService", ("ListAuditEntries",)),
    ("pointsman.system.v1.SystemService", ()),
)
_MESSAGE_LIMIT: Final = 8 * 1024 * 1024


def open_channel(url: str, key: str) -> grpc.aio.Channel:
    """Return a channel to `http://host:port` or `https://host:port` that sends the key with every call."""
    target, secure = _target(url)
    # Typed as its stubs are: too narrowly.
    interceptors: Any = [_KeyUnary(key), _KeyStream(key)] if key else []
    options: Sequence[tuple[str, Any]] = (
        ("grpc.service_config", _service_config()),
        ("grpc.max_receive_message_length", _MESSAGE_LIMIT),
        # An edge that is frozen keeps its connections open. One that does not answer a ping loses them, and
        # open streams end within ten seconds. Quiet streams are no matter.
        ("grpc.keepalive_time_ms", 5_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.http2.max_pings_without_data", 0),
        # A restarted edge is found again within a second.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        ("grpc.use_local_subchannel_pool", 1),
    )
    if secure:
        credentials = grpc.ssl_channel_credentials()
        return grpc.aio.secure_channel(target, credentials, options=options, interceptors=interceptors)
    return grpc.aio.insecure_channel(target, options=options, interceptors=interceptors)


def _target(url: str) -> tuple[str, bool]:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise InvalidRequest(f"{url!r} is no address; it is to be like http://localhost:8080")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    secure = parts.scheme == "https"
    return f"{host}:{parts.port or (443 if secure else 80)}", secure


def _service_config() -> str:
    names = [
        {"service": service, "method": method} if method else {"service": service}
        for service, methods in _READING
        for method in methods or ("",)
    ]
    policy = {
        "maxAttempts": 5,
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return json.dumps({"methodConfig": [{"name": names, "retryPolicy": policy}]})


def _with_key(key: str, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
    metadata = grpc.aio.Metadata(
        *cast(Any, tuple(details.metadata or ())), ("authorization", f"Bearer {key}")
    )
    return grpc.aio.ClientCallDetails(
        details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
    )


class _KeyUnary(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
    def __init__(self, key: str) -> None:
        self._key = key

    async def intercept_unary_unary(
        self, continuation: Continue, details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await continuation(_with_key(self._key, details), request)


class _KeyStream(grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[type-arg]
    def __init__(self, key: str) -> None:
        self._key = key

    async def intercept_unary_stream(  # type: ignore[override]
        self, continuation: Continue, details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await continuation(_with_key(self._key, details), request)
