"""A service with one method of each kind, whose behaviour each test brings along."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from buf.validate import validate_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from servicekit.access import ACCESS, Access
from servicekit.serving import Servicer
from servicekit.testing import Keys, Started, passport_metadata, serve, test_keys

SERVICE = "servicekit.test.v1.EchoService"
IDEMPOTENT = {SERVICE: ("GetEcho",)}
# Each method's name, and whether its request and its response are streams.
METHODS = {
    "Echo": (False, False),
    "GetEcho": (False, False),
    "Unwritten": (False, False),
    "Repeat": (False, True),
    "Gather": (True, False),
}


def _describe() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="servicekit/test/v1/echo.proto",
        package="servicekit.test.v1",
        syntax="proto3",
        dependency=["buf/validate/validate.proto"],
    )
    message = file.message_type.add(name="Echo")
    text = message.field.add(name="text", number=1, type=9, label=1)
    text.options.Extensions[validate_pb2.field].string.max_len = 10
    tags = message.field.add(name="tags", number=2, type=9, label=3)
    tags.options.Extensions[validate_pb2.field].repeated.items.string.min_len = 2
    message.field.add(name="inner", number=3, type=11, label=1, type_name=".servicekit.test.v1.Echo")
    service = file.service.add(name="EchoService")
    for name, (asks_stream, answers_stream) in METHODS.items():
        service.method.add(
            name=name,
            input_type=".servicekit.test.v1.Echo",
            output_type=".servicekit.test.v1.Echo",
            client_streaming=asks_stream,
            server_streaming=answers_stream,
        )
    return file


def _pool() -> Any:
    pool = descriptor_pool.Default()
    try:
        pool.FindServiceByName(SERVICE)
    except KeyError:
        pool.AddSerializedFile(_describe().SerializeToString())
    return pool


@dataclass
class EchoKit:
    """What a test needs of the service: its message, servicers of it, and callables."""

    Echo: Any
    descriptor: Any
    keys: Keys

    def servicer(self, **behaviors: Any) -> Servicer:
        """A servicer that has these methods and no others."""

        def add(_instance: Any, server: Any) -> None:
            handlers = {name: self._handler(name, behavior) for name, behavior in behaviors.items()}
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

        return Servicer(add=add, instance=None, descriptor=self.descriptor)

    def _handler(self, name: str, behavior: Any) -> Any:
        kind = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
        }[METHODS[name]]
        return kind(behavior, self.Echo.FromString, self.Echo.SerializeToString)

    def serve(
        self, access: Access = Access.PUBLIC, *, grace: float = 5.0, signer: Any = None, **behaviors: Any
    ) -> AbstractAsyncContextManager[Started]:
        """Serve these methods to callers that `access` says."""
        return serve(
            self.servicer(**behaviors),
            keys=self.keys,
            access={**ACCESS, SERVICE: access},
            idempotent=IDEMPOTENT,
            grace=grace,
            signer=signer,
        )

    def callable(self, channel: grpc.aio.Channel, name: str) -> Any:
        """The client's side of a method."""
        make = {
            (False, False): channel.unary_unary,
            (False, True): channel.unary_stream,
            (True, False): channel.stream_unary,
        }[METHODS[name]]
        return make(f"/{SERVICE}/{name}", self.Echo.SerializeToString, self.Echo.FromString)

    @property
    def caller(self) -> Any:
        """The metadata of somebody who may call public methods."""
        return passport_metadata(self.keys.signer("router"))


@pytest.fixture
def kit(tmp_path: Path) -> EchoKit:
    pool = _pool()
    return EchoKit(
        message_factory.GetMessageClass(pool.FindMessageTypeByName("servicekit.test.v1.Echo")),
        pool.FindServiceByName(SERVICE),
        test_keys(tmp_path),
    )


@pytest.fixture
def echo() -> Callable[[Any, Any], Any]:
    async def answer(request: Any, _context: Any) -> Any:
        return request

    return answer


@pytest.fixture
def repeat() -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def answer(request: Any, _context: Any) -> AsyncIterator[Any]:
        for _ in range(3):
            yield request

    return answer
