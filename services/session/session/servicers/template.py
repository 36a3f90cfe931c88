"""TemplateService."""

from __future__ import annotations

from typing import Any

from pointsman.session.v1 import template_service_pb2 as pb
from pointsman.session.v1 import template_service_pb2_grpc
from servicekit.context import account_of, current_passport, log_fields

from session import names
from session.caller import Caller
from session.sessions.new_template import NewTemplate
from session.sessions.templates import Templates


class TemplateServicer(template_service_pb2_grpc.TemplateServiceServicer):
    """What sessions are made from."""

    def __init__(self, templates: Templates) -> None:
        self._templates = templates

    async def CreateTemplate(
        self, request: pb.CreateTemplateRequest, _context: Any
    ) -> pb.CreateTemplateResponse:
        """Make a template."""
        caller, account = _of(request.template.account, request.template.name)
        wanted = NewTemplate(account, request.template, request.source)
        template = await self._templates.create(caller, names.request_id_of(request.request_id), wanted)
        return pb.CreateTemplateResponse(template=template)

    async def GetTemplate(self, request: pb.GetTemplateRequest, _context: Any) -> pb.GetTemplateResponse:
        """Return one template."""
        caller, account = _of(request.account, request.name)
        template = await self._templates.get(caller, account, names.template_id_of(request.name))
        return pb.GetTemplateResponse(template=template)

    async def ListTemplates(
        self, request: pb.ListTemplatesRequest, _context: Any
    ) -> pb.ListTemplatesResponse:
        """Return a page of templates."""
        caller, account = _of(request.account)
        found, token = await self._templates.page(caller, account, request.page_size, request.page_token)
        return pb.ListTemplatesResponse(templates=found, next_page_token=token)

    async def UpdateTemplate(
        self, request: pb.UpdateTemplateRequest, _context: Any
    ) -> pb.UpdateTemplateResponse:
        """Change a template."""
        caller, account = _of(request.template.account, request.template.name)
        request_id = names.request_id_of(request.request_id)
        template = await self._templates.update(
            caller, account, request_id, request.template, request.update_mask.paths
        )
        return pb.UpdateTemplateResponse(template=template)

    async def DeleteTemplate(
        self, request: pb.DeleteTemplateRequest, _context: Any
    ) -> pb.DeleteTemplateResponse:
        """Delete a template."""
        caller, account = _of(request.account, request.name)
        await self._templates.delete(caller, account, names.template_id_of(request.name))
        return pb.DeleteTemplateResponse()


def _of(account: str, name: str = "") -> tuple[Caller, str]:
    """Return the caller and the account that it means, empty for every account; log what it is about."""
    if name:
        log_fields(resource=name)
    caller = Caller.of(current_passport())
    # Without an account of its own or of the request a call is about all of them, not the default one.
    return caller, account_of(account) if account or caller.account is not None else ""
