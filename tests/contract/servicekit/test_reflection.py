"""Reflection, asked over a real socket."""

from __future__ import annotations

from pathlib import Path

from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from pointsman.session.v1 import session_service_pb2, session_service_pb2_grpc
from servicekit.serving import Servicer
from servicekit.testing import serve, test_keys


async def test_described_fields_are_spelled_as_in_json(tmp_path: Path) -> None:
    served = Servicer(
        session_service_pb2_grpc.add_SessionServiceServicer_to_server,
        session_service_pb2_grpc.SessionServiceServicer(),
        session_service_pb2.DESCRIPTOR.services_by_name["SessionService"],
    )
    async with serve(served, keys=test_keys(tmp_path)) as started:
        stub = reflection_pb2_grpc.ServerReflectionStub(started.channel)
        questions = [
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="pointsman.session.v1.Event"),
            reflection_pb2.ServerReflectionRequest(list_services=""),
        ]
        answer, listed = [item async for item in stub.ServerReflectionInfo(iter(questions), timeout=60)]

    names = [service.name for service in listed.list_services_response.service]
    assert "pointsman.session.v1.SessionService" in names
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(file)
        for file in answer.file_descriptor_response.file_descriptor_proto
    ]
    event = next(file for file in files if file.name == "pointsman/session/v1/event.proto").message_type[0]
    spelled = {field.name: field.json_name for field in event.field}
    assert spelled["turn_queued"] == "turnQueued"
    assert spelled["parent_tool_use_id"] == "parentToolUseId"
