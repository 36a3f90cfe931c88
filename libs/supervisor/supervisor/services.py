"""The processes of an installation on one machine: their commands, addresses and environments."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.data_dir import DataDir
from supervisor.edge import Edge, Tls, allowed_hosts, envoy_binary, envoy_command, render, split_address
from supervisor.environment import environment, referenced_variables, router_variables
from supervisor.health import envoy_ready, healthy
from supervisor.keeper import Service
from supervisor.ports import free_ports
from supervisor.refusal import Refusal
from supervisor.settings import Settings

ROOT: Final = Path(__file__).resolve().parents[3]
_ENVOY: Final = ROOT / "deploy" / "envoy"
_MODULES: Final = {"router": "router", "session": "session", "runner": "runner", "llm-proxy": "llm_proxy"}
# Turns end in the runner, and need the session service for what is kept of them, and llm-proxy for their
# models. See ADR 37.
_STOP_STAGES: Final = {"router": 0, "runner": 0, "session": 1, "llm-proxy": 2}
_LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True)
class Ports:
    """Ports of loopback, kept for the whole run."""

    router: int
    session: int
    runner: int
    llm_proxy: int
    llm_proxy_http: int

    @classmethod
    def choose(cls) -> Ports:
        """Take free ones."""
        return cls(*free_ports(5))


def check_programs(sandbox: str) -> None:
    """Raise Refusal when a program is missing, with what to install."""
    if envoy_binary() is None:
        raise Refusal("Envoy is missing from this Python environment; run: make setup")
    has_bubblewrap, has_docker = shutil.which("bwrap"), shutil.which("docker")
    if sandbox == "bubblewrap" and not has_bubblewrap:
        raise Refusal("bwrap is missing, which sandboxes are made with; run: sudo apt-get install bubblewrap")
    if sandbox == "docker" and not has_docker:
        raise Refusal("docker is missing, which SANDBOX=docker asks for; install Docker Engine")
    if sandbox == "auto" and not has_bubblewrap and not has_docker:
        raise Refusal(
            "no program to make sandboxes with: run: sudo apt-get install bubblewrap; or install Docker"
        )


def plan(
    settings: Settings, data: DataDir, key: str, environ: Mapping[str, str], ports: Ports
) -> tuple[list[Service], Service]:
    """Return the services, and the edge before them."""
    values = {**environ, **_wiring(data, ports), "API_KEY": key}
    llm_config = Path(environ.get("POINTSMAN_LLM_CONFIG", ROOT / "deploy" / "litellm.yaml"))
    also = {
        "router": router_variables(values.get("POINTSMAN_ROUTER_CONFIG", "")),
        "llm-proxy": referenced_variables(llm_config),
    }
    services = [
        _service(name, values | _metrics(settings, place), also.get(name, set()))
        for place, name in enumerate(_MODULES)
    ]
    return services, _edge(settings, data, ports, environ)


def _wiring(data: DataDir, ports: Ports) -> dict[str, str]:
    """Return the variables by which the services find each other and what is theirs."""
    return {
        "POINTSMAN_DATA_DIR": str(data.path),
        "POINTSMAN_PASSPORT_KEY": str(data.keys),
        "POINTSMAN_PASSPORT_KEYS": str(data.jwks),
        "POINTSMAN_ROUTER_ADDRESS": f"{_LOOPBACK}:{ports.router}",
        "POINTSMAN_SESSION_ADDRESS": f"{_LOOPBACK}:{ports.session}",
        "POINTSMAN_RUNNER_ADDRESS": f"{_LOOPBACK}:{ports.runner}",
        "POINTSMAN_LLM_PROXY_ADDRESS": f"{_LOOPBACK}:{ports.llm_proxy}",
        "POINTSMAN_LLM_PROXY_HTTP_ADDRESS": f"{_LOOPBACK}:{ports.llm_proxy_http}",
    }


def _metrics(settings: Settings, offset: int) -> dict[str, str]:
    """Return where the service with this place in the row serves its metrics, if any does."""
    if settings.metrics_address is None:
        return {}
    host, port = split_address(settings.metrics_address)
    return {"POINTSMAN_METRICS_ADDRESS": f"{host}:{port + offset}"}


def _service(name: str, values: Mapping[str, str], also: set[str]) -> Service:
    address = values[f"POINTSMAN_{name.upper().replace('-', '_')}_ADDRESS"]
    return Service(
        name=name,
        # -P: a file named like a module in the current directory is not what we mean.
        command=[sys.executable, "-P", "-m", _MODULES[name]],
        environ=environment(name, values, also),
        healthy=lambda: healthy(address),
        stop_stage=_STOP_STAGES[name],
    )


def _edge(settings: Settings, data: DataDir, ports: Ports, environ: Mapping[str, str]) -> Service:
    binary = envoy_binary()
    assert binary is not None  # noqa: S101 - check_programs found it
    web = ROOT / "web" / "dist"
    edge = Edge(
        listen=f"{settings.host}:{settings.port}",
        router=f"{_LOOPBACK}:{ports.router}",
        session=f"{_LOOPBACK}:{ports.session}",
        llm_proxy=f"{_LOOPBACK}:{ports.llm_proxy}",
        llm_proxy_http=f"{_LOOPBACK}:{ports.llm_proxy_http}",
        descriptors=_ENVOY / "pointsman.binpb",
        static_files=web if (web / "index.html").is_file() else _ENVOY / "www",
        cors_origins=settings.cors_origins,
        tls=Tls(settings.tls_cert, settings.tls_key) if settings.tls_cert and settings.tls_key else None,
        hosts=allowed_hosts(settings.host, settings.public_hosts),
        metrics=_metrics(settings, len(_MODULES)).get("POINTSMAN_METRICS_ADDRESS"),
    )
    configuration = data.edge / "envoy.yaml"
    configuration.write_text(render((_ENVOY / "envoy.yaml").read_text(), edge))
    return Service(
        name="edge",
        command=envoy_command(binary, configuration),
        environ=environment("edge", environ),
        healthy=lambda: envoy_ready(data.edge),
        folder=data.edge,
    )
