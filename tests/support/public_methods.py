"""Every public method, from the router's own list of what the edge has, and a request for each."""

from __future__ import annotations

import uuid
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from router.app import PUBLIC_SERVICES

METHODS: list[MethodDescriptor] = [
    method
    for service in PUBLIC_SERVICES
    for method in descriptor_pool.Default().FindServiceByName(service).methods
]


def template_of(session: str) -> str:
    """The name of the template that is whose the session is."""
    return f"templates/{session[9:] or 'x'}"


def request_of(method: MethodDescriptor, session: str, key_name: str = "keys/nosuchkey") -> Any:
    """A request that is right in form, about this session, or a turn in it, or this key."""
    request = GetMessageClass(method.input_type)()
    turn = f"{session}/turns/{uuid.uuid4()}"
    template = template_of(session)
    known: dict[str, dict[str, Any]] = {
        "RevokeKey": {"name": key_name},
        "CreateKey": {"key": {"scopes": ["keys.manage"]}},
        "DeleteSnapshot": {"name": f"{session}/snapshots/{uuid.uuid4()}"},
        "RestoreSnapshot": {"name": f"{session}/snapshots/{uuid.uuid4()}"},
        "CancelTurn": {"name": turn},
        "GetTurn": {"name": turn},
        "DecidePermission": {"turn": turn, "permission_id": "p", "decision": 1},
        "UpdateSession": {"session": {"name": session, "title": "x"}, "update_mask": {"paths": ["title"]}},
        "UpdateTurn": {"turn": {"name": turn, "prompt": "x"}, "update_mask": {"paths": ["prompt"]}},
        "CreateTemplate": {"template": {"name": template}, "source": session},
        "GetTemplate": {"name": template},
        "UpdateTemplate": {
            "template": {"name": template, "title": "x"},
            "update_mask": {"paths": ["title"]},
        },
        "DeleteTemplate": {"name": template},
        "GetAccount": {"name": "accounts/other"},
        "UpdateAccount": {
            "account": {"name": "accounts/other", "max_concurrent_turns": 1},
            "update_mask": {"paths": ["max_concurrent_turns"]},
        },
        "RunAgent": {"session_id": session, "prompt": "hi"},
        "CreateSession": {},
        "GetUsage": {},
    }
    fields = known.get(method.name)
    if fields is None:
        plain = {
            "name": session,
            "session": session,
            "prompt": "hi",
            "query": "hi",
            "message": "hi",
            "path": "x.txt",
        }
        fields = {name: value for name, value in plain.items() if name in method.input_type.fields_by_name}
    return type(request)(**fields)


def ids(method: MethodDescriptor) -> str:
    return f"{method.containing_service.name}.{method.name}"
