"""Which methods may be tried again by gRPC itself, when the answer was UNAVAILABLE."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

IDEMPOTENT: Final[Mapping[str, Sequence[str]]] = {
    "grpc.health.v1.Health": ("Check",),
    "pointsman.session.v1.SessionService": (
        "GetSession",
        "ListSessions",
        "ListTurns",
        "GetTurn",
        "ListEvents",
        "WatchEvents",
    ),
    "pointsman.session.v1.TurnService": ("FindTurn",),
    "pointsman.session.v1.WorkspaceService": ("ListFiles", "ReadFile", "DiffWorkspace", "ListSnapshots"),
    "pointsman.session.v1.TemplateService": ("GetTemplate", "ListTemplates"),
    "pointsman.session.v1.AccountService": ("GetAccount", "ListAccounts"),
    "pointsman.llm.v1.ModelService": ("ListModels", "GetUsage"),
    "pointsman.llm.v1.LlmService": ("CountTokens", "ResolveModel"),
    "pointsman.runner.v1.RunnerService": ("ListSandboxes", "ListFiles", "ReadFile", "DiffWorkspace"),
    "pointsman.session.v1.TranscriptService": ("LoadEntries", "ListTranscripts"),
}
"""Methods that change nothing. A stream is tried again only while nothing of it has arrived."""


def service_config(idempotent: Mapping[str, Sequence[str]] = IDEMPOTENT) -> str:
    """Return gRPC's service config, as JSON: 4 attempts within about half a second."""
    names = [
        {"service": service, "method": method}
        for service, methods in idempotent.items()
        for method in methods
    ]
    policy = {
        "maxAttempts": 4,
        "initialBackoff": "0.05s",
        "maxBackoff": "0.4s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return json.dumps({"methodConfig": [{"name": names, "retryPolicy": policy}]})
