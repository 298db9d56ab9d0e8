"""The web application of a `ChainNode`: Esplora at the root, devnet's levers under `/devnet/chain`."""

from starlette.applications import Starlette

from . import devnet_api, esplora
from .node import ChainNode, InvalidRequest


def create_app(node: ChainNode) -> Starlette:
    """The application; starting and stopping the node is the caller's."""
    return Starlette(
        routes=[*devnet_api.routes(node), *esplora.routes(node)],
        exception_handlers={
            esplora.HttpError: esplora.http_error,
            InvalidRequest: devnet_api.invalid_request,
        },
    )
