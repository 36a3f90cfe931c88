"""`pointsman templates`: what new sessions begin with."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Annotated, Any

import typer
from pointsman.session.v1 import template_service_pb2

from pointsman_client.cli.looking import ask, ask_all
from pointsman_client.cli.settings import State
from pointsman_client.cli.show import as_json, listing
from pointsman_client.cli.turns import session_name, template_name

_SECONDS = 60.0
app = typer.Typer(help="Templates of sessions: make, list, delete.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="The template's name or id.")]
Account = Annotated[str, typer.Option(help="The account that it is for. Default: every one.")]


@app.command()
def create(
    context: typer.Context,
    *,
    name: Name,
    source: Annotated[
        str, typer.Option("--from", help="Take the files of this session, or of a snapshot by its name.")
    ] = "",
    account: Account = "",
    title: Annotated[str, typer.Option(help="A line for people.")] = "",
    model: Annotated[str, typer.Option(help="provider/name for its sessions.")] = "",
    system_prompt: Annotated[str, typer.Option(help="The system prompt of its sessions' turns.")] = "",
    egress: Annotated[
        list[str] | None, typer.Option(help="A host that its sessions may reach; may be repeated.")
    ] = None,
) -> None:
    """Make a template. Sessions begin from it with `pointsman run --template`."""
    state: State = context.obj
    template = template_service_pb2.Template(
        name=template_name(name), account=account, title=title, preferred_model=model, egress_hosts=egress
    )
    if system_prompt:
        template.options.system_prompt = system_prompt
    request = template_service_pb2.CreateTemplateRequest(
        template=template, source=session_name(source), request_id=str(uuid.uuid4())
    )
    made = ask(state, lambda client: client.templates.CreateTemplate(request, timeout=_SECONDS))
    if state.json:
        as_json(state, made.template)


@app.command("list")
def list_templates(
    context: typer.Context,
    account: Annotated[str, typer.Option(help="Only those that this account can use.")] = "",
) -> None:
    """List templates by name."""
    state: State = context.obj
    request = template_service_pb2.ListTemplatesRequest(account=account, page_size=200)
    found = ask_all(state, request, lambda client: client.templates.ListTemplates, "templates")
    columns: dict[str, Callable[[Any], object]] = {
        "TEMPLATE": lambda template: template.name.removeprefix("templates/"),
        "ACCOUNT": lambda template: template.account or "every",
        "BYTES": lambda template: template.size_bytes or "",
        "TITLE": lambda template: template.title,
    }
    listing(state, found, columns, "No templates.")


@app.command()
def delete(context: typer.Context, name: Name, account: Account = "") -> None:
    """Delete a template. Sessions that were made from it stay as they are."""
    state: State = context.obj
    request = template_service_pb2.DeleteTemplateRequest(name=template_name(name), account=account)
    ask(state, lambda client: client.templates.DeleteTemplate(request, timeout=_SECONDS))
