"""The whole document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from openapi.comments import comments_of
from openapi.paths import operations
from openapi.schemas import Schemas

# What the edge has.
SERVICES: Final = (
    "pointsman.router.v1.RouterService",
    "pointsman.session.v1.SessionService",
    "pointsman.session.v1.WorkspaceService",
    "pointsman.session.v1.TemplateService",
    "pointsman.session.v1.AccountService",
    "pointsman.llm.v1.ModelService",
    "pointsman.router.v1.KeyService",
    "pointsman.router.v1.AuditService",
    "pointsman.system.v1.SystemService",
)
# Needs no key, and is for probes that look at nothing but the status.
_HEALTH: Final = "SystemService.GetHealth"

_ERROR: Final = {
    "description": "What went wrong, as `google.rpc.Status`.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/google.rpc.Status"}}},
}
_STATUS: Final = {
    "type": "object",
    "description": "A failure.",
    "properties": {
        "code": {"type": "integer", "description": "The gRPC code."},
        "message": {"type": "string", "description": "For a person: what, where, what to do."},
        "details": {
            "type": "array",
            "description": "`google.rpc.ErrorInfo` with the reason; `BadRequest` and `RetryInfo`.",
            "items": {
                "type": "object",
                "properties": {"@type": {"type": "string"}, "reason": {"type": "string"}},
                "required": ["@type"],
            },
        },
    },
    "required": ["code", "message"],
}


def document(files: FileDescriptorSet) -> dict[str, Any]:
    """Return the OpenAPI document of the public services, with every comment of the protos."""
    comments = comments_of(files)
    schemas = Schemas(comments)
    paths: dict[str, dict[str, Any]] = {}
    tags = []
    for service in _services(files):
        tags.append({"name": service.name, "description": comments.get(service.full_name, "")})
        for method in service.methods:
            for operation in operations(method, schemas, comments):
                if operation.body["operationId"] == _HEALTH:
                    operation.body["security"] = []
                    unwell = {
                        **operation.body["responses"]["200"],
                        "description": "Not every service is well.",
                    }
                    operation.body["responses"]["503"] = unwell
                paths.setdefault(operation.path, {})[operation.verb] = operation.body
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Pointsman",
            "version": "1",
            "description": "Agents behind one contract. Made from the protos; the same calls exist in gRPC.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "tags": tags,
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": {**dict(sorted(schemas.collected.items())), "google.rpc.Status": _STATUS},
            "responses": {"Error": _ERROR},
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key, or a JWT."}
            },
        },
    }


def _services(files: FileDescriptorSet) -> Iterator[ServiceDescriptor]:
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    for name in SERVICES:
        yield pool.FindServiceByName(name)
