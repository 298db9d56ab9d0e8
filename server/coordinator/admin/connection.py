"""The way to the core: its address, TLS, and the key that signs."""

from __future__ import annotations

import argparse
import ipaddress
import os
import ssl
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from coordinator.admin.errors import AdminError, Exit
from coordinator_client.grpc import GrpcClient, tls_context
from coordinator_client.nostr import InvalidKey, NostrKey

DEFAULT_ADDRESS: Final = "127.0.0.1:50051"
# A key has 64 characters; whatever is much longer is another file.
_MAX_KEY_FILE_BYTES: Final = 1024


class Connection:
    """How to reach and sign for one core. `open` makes a channel; each belongs to whoever opened it."""

    def __init__(
        self,
        address: str,
        *,
        authority: str = "",
        key: NostrKey | None = None,
        tls: ssl.SSLContext | None = None,
        timeout_seconds: float = 30.0,
    ) -> None:
        self.address = address
        self.key = key
        self.timeout_seconds = timeout_seconds
        self._authority = authority
        self._tls = tls
        self.warnings: list[str] = []

    @classmethod
    def of(cls, arguments: argparse.Namespace, environment: Mapping[str, str] | None = None) -> Connection:
        """From the command line, then the environment (`COORDINATOR_ADMIN_*`).

        Raises:
            AdminError: an option or a file is wrong.
        """
        env = os.environ if environment is None else environment
        address = arguments.address or env.get("COORDINATOR_ADMIN_ADDRESS") or DEFAULT_ADDRESS
        key_file = arguments.key_file or _path(env.get("COORDINATOR_ADMIN_KEY_FILE"))
        ca_file = arguments.tls_ca or _path(env.get("COORDINATOR_ADMIN_TLS_CA"))
        certificate = arguments.client_cert or _path(env.get("COORDINATOR_ADMIN_CLIENT_CERT"))
        key_of_certificate = arguments.client_key or _path(env.get("COORDINATOR_ADMIN_CLIENT_KEY"))
        host = check_address(address)
        tls = None
        if arguments.tls or ca_file or certificate:
            tls = _tls_context(ca_file, certificate, key_of_certificate)
        elif key_of_certificate:
            raise AdminError(Exit.USAGE, "USAGE", "--client-key needs --client-cert")
        connection = cls(
            address,
            authority=arguments.authority or env.get("COORDINATOR_ADMIN_AUTHORITY", ""),
            key=load_key(key_file) if key_file else None,
            tls=tls,
            timeout_seconds=arguments.timeout,
        )
        if key_file and _others_can_read(key_file):
            connection.warnings.append(f"warning: others can read {key_file}; chmod 600 it")
        if tls is None and not _is_loopback(host):
            connection.warnings.append(f"warning: the channel to {host} is not encrypted; see --tls-ca")
        return connection

    def open(self) -> GrpcClient:
        """A new channel; it connects at the first call."""
        return GrpcClient(
            self.address,
            self.key,
            authority=self._authority,
            tls=self._tls,
            timeout_seconds=self.timeout_seconds,
        )

    def require_key(self) -> NostrKey:
        """The key, for commands that nobody may do without one.

        Raises:
            AdminError: there is none.
        """
        if self.key is None:
            raise AdminError(
                Exit.PERMISSION, "NO_KEY", "this needs a key: --key-file, or COORDINATOR_ADMIN_KEY_FILE"
            )
        return self.key


def check_address(address: str) -> str:
    """The host of `host:port`.

    Raises:
        AdminError: it is no address.
    """
    host, _, port = address.rpartition(":")
    in_brackets = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if in_brackets else host
    port_ok = port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65536
    if not bare or not port_ok or ("/" in bare) or (":" in bare) != in_brackets:
        raise AdminError(Exit.USAGE, "USAGE", f"{address!r} is no address; write host:port")
    return bare


def load_key(path: Path) -> NostrKey:
    """The secret key in a file: nsec or hex, alone on the first line.

    Raises:
        AdminError: there is none. Says nothing of what is in the file.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_KEY_FILE_BYTES).decode("ascii", "replace").strip()
    except OSError as error:
        raise AdminError(
            Exit.USAGE, "KEY_FILE", f"the key file {path} cannot be read: {error.strerror}"
        ) from None
    try:
        return NostrKey.from_nsec(text) if text.startswith("nsec1") else NostrKey.from_hex(text)
    except InvalidKey:
        raise AdminError(
            Exit.USAGE, "KEY_FILE", f"{path} holds no secret key: it must be an nsec or 64 hexadecimal digits"
        ) from None


def _tls_context(ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    try:
        return tls_context(ca, certificate, key)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise AdminError(Exit.USAGE, "TLS_FILES", f"--tls-ca, --client-cert, --client-key: {error}") from None


def _others_can_read(path: Path) -> bool:
    mode = path.stat().st_mode
    return stat.S_ISREG(mode) and bool(mode & 0o077)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
