"""The comments of the proto files.

They are not in the descriptors that the stubs carry. `api.binpb` is a descriptor set with source info that
protoc writes from the same files; only its comments are used.
"""

from collections.abc import Mapping
from functools import cache
from importlib import resources

from google.protobuf import descriptor_pb2


@cache
def comments() -> Mapping[str, str]:
    """Leading comments of the proto files by full name of what they describe, as one paragraph each."""
    packed = resources.files("coordinator_gateway").joinpath("api.binpb").read_bytes()
    found: dict[str, str] = {}
    for file in descriptor_pb2.FileDescriptorSet.FromString(packed).file:
        named = _named(file)
        for location in file.source_code_info.location:
            if (name := named.get(tuple(location.path))) is not None and location.leading_comments:
                found[name] = " ".join(location.leading_comments.split())
    return found


def _named(file: descriptor_pb2.FileDescriptorProto) -> dict[tuple[int, ...], str]:
    """Full names by path in the file descriptor (descriptor.proto, SourceCodeInfo.Location)."""
    named: dict[tuple[int, ...], str] = {}

    def message(item: descriptor_pb2.DescriptorProto, path: tuple[int, ...], scope: str) -> None:
        name = f"{scope}.{item.name}"
        named[path] = name
        for index, field in enumerate(item.field):
            named[(*path, 2, index)] = f"{name}.{field.name}"
        for index, nested in enumerate(item.nested_type):
            message(nested, (*path, 3, index), name)
        for index, inner in enumerate(item.enum_type):
            enum(inner, (*path, 4, index), name)

    def enum(item: descriptor_pb2.EnumDescriptorProto, path: tuple[int, ...], scope: str) -> None:
        named[path] = f"{scope}.{item.name}"
        for index, value in enumerate(item.value):
            # Values stand beside their enum, not inside it, by C++'s rules.
            named[(*path, 2, index)] = f"{scope}.{value.name}"

    for index, item in enumerate(file.message_type):
        message(item, (4, index), file.package)
    for index, kind in enumerate(file.enum_type):
        enum(kind, (5, index), file.package)
    for index, service in enumerate(file.service):
        name = f"{file.package}.{service.name}"
        named[(6, index)] = name
        for number, method in enumerate(service.method):
            named[(6, index, 2, number)] = f"{name}.{method.name}"
    return named
