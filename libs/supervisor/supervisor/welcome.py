"""What a person reads when everything is up."""

from __future__ import annotations

from pathlib import Path

_TURN = '{"prompt":"Create hello.py that prints hello world, then run it"}'
_RUN_TURN = "pointsman.router.v1.RouterService/RunTurn"


def welcome(host: str, port: int, key: str, key_file: Path | None, logs: Path, *, tls: bool = False) -> str:
    """Return the address, the key and four commands to paste."""
    name = "localhost" if host in ("127.0.0.1", "0.0.0.0", "::", "::1") else host
    place, scheme = f"{name}:{port}", "https" if tls else "http"
    # The certificate is for the name that others use, which is not this one.
    grpcurl, buf, curl = (
        ("-insecure", "-k", "curl -sk") if tls else ("-plaintext", "--http2-prior-knowledge", "curl -s")
    )
    kept = f"   (kept in {key_file})" if key_file else ""
    header = f"-H 'authorization: Bearer {key}'"
    return f"""Ready on {scheme}://{place}

API key   {key}{kept}
Logs      {logs}

grpcurl   grpcurl {grpcurl} {header} -d '{_TURN}' {place} {_RUN_TURN}
buf curl  .venv/bin/buf curl --protocol grpc {buf} {header} -d '{_TURN}' {scheme}://{place}/{_RUN_TURN}
curl      {curl} -X POST {scheme}://{place}/query {header} -H 'content-type: application/json' -d '{{"query":"What is 2+2?"}}'
browser   {scheme}://{place}/

Ctrl-C stops everything.
"""  # noqa: E501 - commands to paste are one line each
