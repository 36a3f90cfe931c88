"""Reflection whose descriptors say how fields are spelled in JSON.

Python's protobuf leaves `json_name` out of the descriptors that it gives back, and clients such as grpcurl
then print `turn_queued` where the JSON that the edge speaks, and every other client, says `turnQueued`.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import _async, reflection, reflection_pb2, reflection_pb2_grpc


class ReflectionServicer(_async.ReflectionServicer):  # type: ignore[misc]  # the package has no types
    """The library's servicer, with `json_name` filled in."""

    async def ServerReflectionInfo(  # noqa: N802 - gRPC's name
        self, request_iterator: AsyncIterable[Any], unused_context: Any
    ) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        """Answer each question about the served descriptors, in order."""
        async for answer in super().ServerReflectionInfo(request_iterator, unused_context):
            # Touching the field of an answer of another kind would make it one of this kind.
            if answer.HasField("file_descriptor_response"):
                files = answer.file_descriptor_response.file_descriptor_proto
                files[:] = [_with_json_names(file) for file in files]
            yield answer


def add_reflection(service_names: Iterable[str], server: Any) -> None:
    """Serve reflection at `server`; it lists `service_names`, and describes all that is imported."""
    servicer = ReflectionServicer([*service_names, reflection.SERVICE_NAME])
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)


@cache  # as many as there are proto files
def _with_json_names(serialized: bytes) -> bytes:
    file = descriptor_pb2.FileDescriptorProto.FromString(serialized)
    for message in file.message_type:
        _fill(message)
    return file.SerializeToString()


def _fill(message: descriptor_pb2.DescriptorProto) -> None:
    for field in message.field:
        if not field.json_name:
            field.json_name = _json_name(field.name)
    for nested in message.nested_type:
        _fill(nested)


def _json_name(name: str) -> str:
    """Return protoc's default: every letter after an underscore in upper case."""
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)
