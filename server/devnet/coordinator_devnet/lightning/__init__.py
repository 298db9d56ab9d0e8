"""The devnet's Lightning network: nodes that speak LND's gRPC and pay each other."""

from .http import create_app
from .network import LightningNetwork
from .node import Node

__all__ = ["LightningNetwork", "Node", "create_app"]
