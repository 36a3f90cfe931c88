"""Comments of a descriptor set, by the full name of what they are about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet

# Field numbers of descriptor.proto, which paths in source information are made of.
_MESSAGE, _ENUM, _SERVICE = 4, 5, 6
_FIELD, _NESTED, _NESTED_ENUM = 2, 3, 4
_METHOD, _VALUE = 2, 2


def comments_of(files: FileDescriptorSet) -> Mapping[str, str]:
    """Return the leading comment of every message, field, enum, enum value, service and method."""
    found: dict[str, str] = {}
    for file in files.file:
        by_path = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
        for path, name in _names(file):
            text = " ".join(by_path.get(path, "").split())
            if text:
                found[name] = text
    return found


def _names(file: FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    for index, message in enumerate(file.message_type):
        yield from _message_names(message, (_MESSAGE, index), file.package)
    for index, enum in enumerate(file.enum_type):
        yield (_ENUM, index), f"{file.package}.{enum.name}"
        for number, value in enumerate(enum.value):
            yield (_ENUM, index, _VALUE, number), f"{file.package}.{enum.name}.{value.name}"
    for index, service in enumerate(file.service):
        yield (_SERVICE, index), f"{file.package}.{service.name}"
        for number, method in enumerate(service.method):
            yield (_SERVICE, index, _METHOD, number), f"{file.package}.{service.name}.{method.name}"


def _message_names(
    message: DescriptorProto, path: tuple[int, ...], scope: str
) -> Iterator[tuple[tuple[int, ...], str]]:
    name = f"{scope}.{message.name}"
    yield path, name
    for number, field in enumerate(message.field):
        yield (*path, _FIELD, number), f"{name}.{field.name}"
    for number, nested in enumerate(message.nested_type):
        yield from _message_names(nested, (*path, _NESTED, number), name)
