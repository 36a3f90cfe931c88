"""`python -m supervisor.edge_container`: the edge container fills in the configuration and becomes Envoy."""

from __future__ import annotations

import os
import re
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from supervisor.edge import HOST_NAME, Edge, Tls, allowed_hosts, envoy_binary, envoy_command, render

FOLDER: Final = Path("/tmp/edge")  # noqa: S108 - the container's own
"""Envoy's configuration and sockets; `compose.yaml` asks there whether it is well."""
_FILES = Path("/etc/pointsman/envoy")


def edge_of(environ: Mapping[str, str]) -> Edge:
    """Read where things are. Raises KeyError for a variable that is not set, ValueError for a bad one."""
    return Edge(
        listen=environ.get("POINTSMAN_EDGE_ADDRESS", "0.0.0.0:8080"),
        router=environ["POINTSMAN_ROUTER_ADDRESS"],
        session=environ["POINTSMAN_SESSION_ADDRESS"],
        llm_proxy=environ["POINTSMAN_LLM_PROXY_ADDRESS"],
        llm_proxy_http=environ["POINTSMAN_LLM_PROXY_HTTP_ADDRESS"],
        descriptors=_FILES / "pointsman.binpb",
        static_files=Path("/srv/www"),
        cors_origins=_listed(environ, "CORS_ORIGINS"),
        tls=_tls(environ),
        trusted_proxies=int(environ.get("POINTSMAN_TRUSTED_PROXIES", "0")),
        # Where the container's port is published decides who can call, not where it listens inside.
        hosts=allowed_hosts(
            environ.get("POINTSMAN_PUBLISHED_HOST") or "0.0.0.0", _listed(environ, "POINTSMAN_PUBLIC_HOSTS")
        ),
        metrics=environ.get("POINTSMAN_METRICS_ADDRESS") or None,
    )


def _listed(environ: Mapping[str, str], name: str) -> list[str]:
    return [part.strip() for part in environ.get(name, "").split(",") if part.strip()]


def _check_hosts(edge: Edge) -> None:
    for host in edge.hosts or ():
        if not re.fullmatch(HOST_NAME, host):
            raise ValueError(f"POINTSMAN_PUBLIC_HOSTS: {host!r}")


def _tls(environ: Mapping[str, str]) -> Tls | None:
    certificate, key = environ.get("POINTSMAN_TLS_CERT", ""), environ.get("POINTSMAN_TLS_KEY", "")
    return Tls(Path(certificate), Path(key)) if certificate and key else None


def main() -> None:
    """Become Envoy. Exits with 2 and one line for a bad variable."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    binary = envoy_binary()
    try:
        edge = edge_of(os.environ)
        _check_hosts(edge)
        text = render((_FILES / "envoy.yaml").read_text(), edge)
    except (KeyError, ValueError) as error:
        sys.exit(f"edge: {error} is not set or not what it should be; see deploy/compose.yaml")
    if binary is None:
        sys.exit("edge: this image has no Envoy; build it with make images")
    FOLDER.mkdir(exist_ok=True)
    FOLDER.chmod(0o700)
    # Its sockets are made here.
    os.chdir(FOLDER)
    configuration = FOLDER / "envoy.yaml"
    configuration.write_text(text)
    command = envoy_command(binary, configuration)
    os.execv(command[0], command)  # noqa: S606 - the list above, nothing from outside


if __name__ == "__main__":
    main()
