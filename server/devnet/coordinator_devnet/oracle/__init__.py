"""Devnet's oracle: the live weather oracle's HTTP interface over recorded weather, with levers for tests.

It publishes nonce points and no secrets, scores and attests by itself at the signing date, and never attests
to two outcomes of one event.
"""

from .app import create_app
from .errors import OracleServiceError
from .service import OracleService

__all__ = ["OracleService", "OracleServiceError", "create_app"]
