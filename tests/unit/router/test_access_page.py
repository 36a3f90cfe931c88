"""`docs/access.md` says what the table says."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

from servicekit.access import ACCESS, ROLES, Access, needed

ROOT = Path(__file__).resolve().parents[3]
SERVICES = {
    "RouterService": "router.v1.router_service",
    "KeyService": "router.v1.key_service",
    "AuditService": "router.v1.audit_service",
    "SessionService": "session.v1.session_service",
    "WorkspaceService": "session.v1.workspace_service",
    "TemplateService": "session.v1.template_service",
    "AccountService": "session.v1.account_service",
    "ModelService": "llm.v1.model_service",
    "SystemService": "system.v1.system_service",
}


def test_every_public_method_is_listed_with_its_scope_and_least_role():
    page = (ROOT / "docs" / "access.md").read_text()
    listed = {
        row[0]: row[1:]
        for row in re.findall(r"^\| `(\w+\.\w+)` \| `?([\w. ]+?)`? \| ([\w ]+) \|$", page, re.M)
    }
    expected = {}
    for service, module in SERVICES.items():
        for method in import_module(f"pointsman.{module}_pb2").DESCRIPTOR.services_by_name[service].methods:
            access = needed(ACCESS, f"/{method.containing_service.full_name}/{method.name}")
            assert access is not None
            role = next((role for role, scopes in ROLES.items() if access.value in scopes), "")
            row = ("none", "nobody in particular") if access is Access.OPEN else (access.value, role)
            expected[f"{service}.{method.name}"] = row
    assert listed == expected
