"""The gRPC API: thin servicers over `coordinator.operations`, and what every call goes through first."""

from coordinator.api.server import ApiServer, build_server

__all__ = ["ApiServer", "build_server"]
