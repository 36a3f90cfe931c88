"""What a person reads when everything is up."""

from __future__ import annotations

from pathlib import Path

_TURN = "Create hello.py that prints hello world, then run it"
_RUN_TURN = "pointsman.router.v1.RouterService/RunTurn"


def welcome(host: str, port: int, key: str, key_file: Path | None, logs: Path) -> str:
    """Return the address, the key and four commands to paste."""
    name = "localhost" if host in ("127.0.0.1", "0.0.0.0", "::", "::1") else host
    place = f"{name}:{port}"
    kept = f"   (kept in {key_file})" if key_file else ""
    return f"""Ready on http://{place}

API key   {key}{kept}
Logs      {logs}

grpcurl   grpcurl -plaintext -H 'authorization: Bearer {key}' -d '{{"prompt":"{_TURN}"}}' {place} {_RUN_TURN}
buf curl  .venv/bin/buf curl --protocol grpc --http2-prior-knowledge -H 'authorization: Bearer {key}' -d '{{"prompt":"{_TURN}"}}' http://{place}/{_RUN_TURN}
curl      curl -s -X POST {place}/query -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' -d '{{"query":"What is 2+2?"}}'
browser   http://{place}/

Ctrl-C stops everything.
"""  # noqa: E501 - commands to paste are one line each
