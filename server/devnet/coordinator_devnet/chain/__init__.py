"""Devnet's bitcoin chain: Bitcoin Core's consensus engine on regtest behind Esplora's REST interface."""

from .app import create_app
from .audit import Supply
from .engine import EngineError
from .node import ChainNode, InvalidRequest, NodeNotRunning
from .policy import Rejected

__all__ = [
    "ChainNode",
    "EngineError",
    "InvalidRequest",
    "NodeNotRunning",
    "Rejected",
    "Supply",
    "create_app",
]
