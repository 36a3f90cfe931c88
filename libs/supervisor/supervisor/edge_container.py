"""`python -m supervisor.edge_container`: the edge container fills in the configuration and becomes Envoy."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from supervisor.edge import Edge, Tls, envoy_binary, envoy_command, render

_FILES = Path("/etc/pointsman/envoy")


def edge_of(environ: Mapping[str, str]) -> Edge:
    """Read where things are. Raises KeyError for a variable that is not set, ValueError for a bad one."""
    return Edge(
        listen=environ.get("POINTSMAN_EDGE_ADDRESS", "0.0.0.0:8080"),
        router=environ["POINTSMAN_ROUTER_ADDRESS"],
        session=environ["POINTSMAN_SESSION_ADDRESS"],
        llm_proxy=environ["POINTSMAN_LLM_PROXY_ADDRESS"],
        llm_proxy_http=environ["POINTSMAN_LLM_PROXY_HTTP_ADDRESS"],
        admin_port=9901,
        descriptors=_FILES / "pointsman.binpb",
        static_files=Path("/srv/www"),
        cors_origins=[
            origin.strip() for origin in environ.get("CORS_ORIGINS", "").split(",") if origin.strip()
        ],
        tls=_tls(environ),
        trusted_proxies=int(environ.get("POINTSMAN_TRUSTED_PROXIES", "0")),
    )


def _tls(environ: Mapping[str, str]) -> Tls | None:
    certificate, key = environ.get("POINTSMAN_TLS_CERT", ""), environ.get("POINTSMAN_TLS_KEY", "")
    return Tls(Path(certificate), Path(key)) if certificate and key else None


def main() -> None:
    """Become Envoy. Exits with 2 and one line for a bad variable."""
    binary = envoy_binary()
    try:
        edge = edge_of(os.environ)
        text = render((_FILES / "envoy.yaml").read_text(), edge)
    except (KeyError, ValueError) as error:
        sys.exit(f"edge: {error} is not set or not what it should be; see deploy/compose.yaml")
    if binary is None:
        sys.exit("edge: this image has no Envoy; build it with make images")
    configuration = Path(tempfile.mkdtemp()) / "envoy.yaml"
    configuration.write_text(text)
    command = envoy_command(binary, configuration)
    os.execv(command[0], command)  # noqa: S606 - the list above, nothing from outside


if __name__ == "__main__":
    main()
