"""`coordinator-gateway`: runs the gateway until it is told to stop."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from coordinator_gateway.app import create_app
from coordinator_gateway.config import PREFIX, ConfigError, GatewayConfig
from coordinator_gateway.server import GatewayServer, allow_many_connections


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line (it goes before the environment) and serves."""
    try:
        config = GatewayConfig.from_env(**vars(_parser().parse_args(argv)))
    except ConfigError as error:
        sys.exit(f"coordinator-gateway: {error}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    allow_many_connections()
    server = GatewayServer(create_app(config), config)
    try:
        server.run()
    except KeyboardInterrupt:
        # uvicorn repeats the signal after it has stopped in good order.
        return
    if not server.started:
        sys.exit(3)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="coordinator-gateway",
        description="REST and event streams in front of the coordinator's gRPC core.",
        epilog=f"Every setting, these included, can be given in the environment as {PREFIX}<NAME>.",
    )
    parser.add_argument("--core", metavar="HOST:PORT", help="the core's gRPC address (127.0.0.1:50051)")
    parser.add_argument("--core-tls-ca", type=Path, metavar="FILE", help="CA of the core's certificate (PEM)")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="token shared with the core")
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (8080)")
    parser.add_argument(
        "--public-url", metavar="URL", help="as clients reach it, e.g. https://play.example.org"
    )
    parser.add_argument("--web-dir", type=Path, metavar="DIR", help="built web app to serve at /")
    return parser


if __name__ == "__main__":
    main()
