"""Which variables each process gets. Nothing is inherited that is not on its list."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from servicekit.starting import GRPC_VARIABLES

# Every Python program's own surroundings. `POINTSMAN_*` is our configuration and holds no secret.
_COMMON: Final = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_*", "TZ", "TMPDIR", "POINTSMAN_*"),
    # Ours, set in `main`: a service that does not get them starts twice.
    *GRPC_VARIABLES,
)
_NETWORK: Final = (
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)
# As LiteLLM names them: a provider's key, its address, and the clouds' own families.
_PROVIDERS: Final = (
    *("CLAUDE_CODE_OAUTH_TOKEN", "*_API_KEY", "*_API_BASE", "*_BASE_URL", "*_API_VERSION"),
    *("AWS_*", "AZURE_*", "GOOGLE_*", "VERTEXAI_*", "HUGGINGFACE_*", "WATSONX_*", "DATABRICKS_*"),
)
ALLOWED: Final[Mapping[str, tuple[str, ...]]] = {
    "router": (*_COMMON, *_NETWORK, "API_KEY", "DATABASE_URL"),
    "session": (*_COMMON, "DATABASE_URL"),
    "runner": (*_COMMON, "SANDBOX", "DOCKER_HOST"),
    "llm-proxy": (*_COMMON, *_NETWORK, *_PROVIDERS, "MODEL", "DATABASE_URL"),
    "edge": ("PATH", "TZ"),
}
"""Names of variables by process; `*` stands for any text."""

# A client's own key, on the machine of somebody who is a client, too.
_NEVER: Final = frozenset({"POINTSMAN_API_KEY"})
_REFERENCE: Final = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)")
_ROUTER_REFERENCE: Final = re.compile(r"\$\{([A-Z][A-Z0-9_]*)\}")


def environment(service: str, environ: Mapping[str, str], also: Iterable[str] = ()) -> dict[str, str]:
    """Return what `service` gets of `environ`: what its list allows, and the names in `also`."""
    allowed = (*ALLOWED[service], *also)
    return {
        name: value
        for name, value in environ.items()
        if name not in _NEVER and any(fnmatchcase(name, pattern) for pattern in allowed)
    }


def referenced_variables(llm_config: Path) -> set[str]:
    """Return the names that a LiteLLM configuration reads as `os.environ/NAME`. None for a missing file."""
    return set(_REFERENCE.findall(llm_config.read_text())) if llm_config.is_file() else set()


def router_variables(router_config: str) -> set[str]:
    """Return the names that a router configuration reads as `${NAME}`. None for the packaged one."""
    path = Path(router_config)
    return set(_ROUTER_REFERENCE.findall(path.read_text())) if router_config and path.is_file() else set()
