"""The services of coordinator.v1, as their descriptors tell them."""

import importlib
import pkgutil
from collections.abc import Iterator

from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor

import coordinator.v1


def files() -> Iterator[FileDescriptor]:
    """Every file of coordinator.v1, by name."""
    for module in sorted(pkgutil.iter_modules(coordinator.v1.__path__), key=lambda module: module.name):
        if module.name.endswith("_pb2"):
            yield importlib.import_module(f"coordinator.v1.{module.name}").DESCRIPTOR


def services() -> Iterator[ServiceDescriptor]:
    """Every service of coordinator.v1."""
    for file in files():
        yield from file.services_by_name.values()
