"""Settings of the core, read from the environment (`COORDINATOR_*`)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.contract.network import Network
from coordinator_client.nostr import NostrError, npub_to_hex


class ConfigError(Exception):
    """A setting is missing or wrong; names its variable."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that is configured. Secrets are held by file name and read once at start."""

    database_url: str
    grpc_host: str
    grpc_port: int
    grpc_authorities: tuple[str, ...]
    grpc_tls_certificate_file: Path | None
    grpc_tls_key_file: Path | None
    grpc_tls_client_ca_file: Path | None
    network: Network
    esplora_url: str
    lnd_address: str
    lnd_tls_certificate_file: Path
    lnd_macaroon_file: Path
    keymeld_url: str
    keymeld_public_url: str
    keymeld_max_subsets: int
    keymeld_max_batch_items: int
    keymeld_max_sessions: int
    # The published service writes tweaks as {"type": "none"}, its protocol note as "None".
    keymeld_tagged_tweaks: bool
    oracle_url: str
    oracle_public_url: str
    esplora_public_url: str
    admin_pubkeys: frozenset[str]
    gateway_token: str = field(repr=False)
    secret_key: bytes = field(repr=False)
    funding_confirmations: int = 1
    escrow_confirmations: int = 1
    poll_interval_seconds: float = 1.0
    ticket_reservation_seconds: int = 600
    # A ticket's payment is held for as many blocks as its competition needs (`domain.htlcs`), and at least
    # for this many: for chains whose blocks come faster than every ten minutes.
    hold_invoice_cltv_blocks: int = 0
    # An HTLC with fewer blocks left than this before its expiry is not counted on any more.
    htlc_safety_blocks: int = 24
    # Within these each step must be finished, or the competition fails and everybody is refunded.
    player_signing_seconds: int = 3600
    oracle_seconds: int = 3600
    keygen_seconds: int = 1800
    signing_seconds: int = 3600
    default_relative_locktime_blocks: int = 144
    default_fee_rate_sats_per_vb: int = 2
    payout_fee_limit_percent: int = 1
    payout_timeout_seconds: int = 60
    # Lightning addresses and LNURLs may lead to hosts that are not public: for a devnet.
    payout_private_hosts: bool = False
    session_seconds: int = 12 * 3600
    # At most as many processes compute contracts beside the core; 0: none, it does so itself in threads.
    worker_processes: int = 0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Reads and checks every variable.

        Raises:
            ConfigError: one is missing or wrong.
        """
        env = _Environment(os.environ if environment is None else environment)
        esplora_url = env.text("ESPLORA_URL")
        keymeld_url = env.text("KEYMELD_URL")
        oracle_url = env.text("ORACLE_URL")
        grpc_port = env.number("GRPC_PORT", 50051)
        network = env.network()
        return cls(
            database_url=env.text("DATABASE_URL"),
            grpc_host=env.text("GRPC_HOST", "127.0.0.1"),
            grpc_port=grpc_port,
            grpc_authorities=env.words("GRPC_AUTHORITIES", f"127.0.0.1:{grpc_port},localhost:{grpc_port}"),
            grpc_tls_certificate_file=env.optional_path("GRPC_TLS_CERT_FILE"),
            grpc_tls_key_file=env.optional_path("GRPC_TLS_KEY_FILE"),
            grpc_tls_client_ca_file=env.optional_path("GRPC_TLS_CLIENT_CA_FILE"),
            network=network,
            esplora_url=esplora_url,
            esplora_public_url=env.text("ESPLORA_PUBLIC_URL", esplora_url),
            lnd_address=env.text("LND_ADDRESS"),
            lnd_tls_certificate_file=env.path("LND_TLS_CERT_FILE"),
            lnd_macaroon_file=env.path("LND_MACAROON_FILE"),
            keymeld_url=keymeld_url,
            keymeld_public_url=env.text("KEYMELD_PUBLIC_URL", keymeld_url),
            keymeld_max_subsets=env.number("KEYMELD_MAX_SUBSETS", 200),
            keymeld_max_batch_items=env.number("KEYMELD_MAX_BATCH_ITEMS", 100),
            keymeld_max_sessions=env.number("KEYMELD_MAX_SESSIONS", 16),
            keymeld_tagged_tweaks=env.flag("KEYMELD_TAGGED_TWEAKS"),
            oracle_url=oracle_url,
            oracle_public_url=env.text("ORACLE_PUBLIC_URL", oracle_url),
            admin_pubkeys=env.npubs("ADMIN_NPUBS"),
            gateway_token=env.secret("GATEWAY_TOKEN"),
            secret_key=env.key("SECRET_KEY"),
            funding_confirmations=env.number("FUNDING_CONFIRMATIONS", 3),
            escrow_confirmations=env.number("ESCROW_CONFIRMATIONS", 1),
            poll_interval_seconds=env.decimal("POLL_INTERVAL_SECONDS", 2.0),
            ticket_reservation_seconds=env.number("TICKET_RESERVATION_SECONDS", 600),
            hold_invoice_cltv_blocks=env.number(
                "HOLD_INVOICE_CLTV_BLOCKS", 1008 if network is Network.REGTEST else 0
            ),
            htlc_safety_blocks=env.number("HTLC_SAFETY_BLOCKS", 24),
            player_signing_seconds=env.number("PLAYER_SIGNING_SECONDS", 3600),
            oracle_seconds=env.number("ORACLE_SECONDS", 3600),
            keygen_seconds=env.number("KEYGEN_SECONDS", 1800),
            signing_seconds=env.number("SIGNING_SECONDS", 3600),
            default_relative_locktime_blocks=env.number("RELATIVE_LOCKTIME_BLOCKS", 144),
            default_fee_rate_sats_per_vb=env.number("FEE_RATE_SATS_PER_VB", 2),
            payout_fee_limit_percent=env.number("PAYOUT_FEE_LIMIT_PERCENT", 1),
            payout_timeout_seconds=env.number("PAYOUT_TIMEOUT_SECONDS", 60),
            payout_private_hosts=env.flag("PAYOUT_PRIVATE_HOSTS", network is Network.REGTEST),
            session_seconds=env.number("SESSION_SECONDS", 12 * 3600),
            worker_processes=env.number("WORKER_PROCESSES", os.cpu_count() or 1),
        )


class _Environment:
    """Typed reading of `COORDINATOR_*` variables; a missing one without a default raises."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def text(self, name: str, default: str | None = None) -> str:
        value = self._values.get(f"COORDINATOR_{name}") or default
        if value is None:
            raise ConfigError(f"COORDINATOR_{name} is not set")
        return value

    def number(self, name: str, default: int) -> int:
        value = self.text(name, str(default))
        if not value.isdecimal():
            raise ConfigError(f"COORDINATOR_{name} must be a number, is {value!r}")
        return int(value)

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.text(name, "1" if default else "0")
        if value not in ("0", "1"):
            raise ConfigError(f"COORDINATOR_{name} must be 0 or 1, is {value!r}")
        return value == "1"

    def decimal(self, name: str, default: float) -> float:
        value = self.text(name, str(default))
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not number > 0:
            raise ConfigError(f"COORDINATOR_{name} must be a positive number, is {value!r}")
        return number

    def words(self, name: str, default: str = "") -> tuple[str, ...]:
        return tuple(word.strip() for word in self.text(name, default).split(",") if word.strip())

    def path(self, name: str) -> Path:
        path = Path(self.text(name))
        if not path.is_file():
            raise ConfigError(f"COORDINATOR_{name}: there is no file {path}")
        return path

    def optional_path(self, name: str) -> Path | None:
        return self.path(name) if self._values.get(f"COORDINATOR_{name}") else None

    def network(self) -> Network:
        value = self.text("NETWORK")
        try:
            return Network(value)
        except ValueError:
            raise ConfigError(
                f"COORDINATOR_NETWORK must be one of {', '.join(Network)}, is {value!r}"
            ) from None

    def npubs(self, name: str) -> frozenset[str]:
        try:
            return frozenset(npub_to_hex(word) for word in self.words(name))
        except NostrError as error:
            raise ConfigError(f"COORDINATOR_{name}: {error}") from None

    def secret(self, name: str) -> str:
        """From `COORDINATOR_<name>` or the file named by `COORDINATOR_<name>_FILE`."""
        direct = self._values.get(f"COORDINATOR_{name}")
        value = direct or self.path(f"{name}_FILE").read_text().strip()
        if len(value) < 16:
            raise ConfigError(f"COORDINATOR_{name} must have at least 16 characters")
        return value

    def key(self, name: str) -> bytes:
        try:
            key = bytes.fromhex(self.secret(name))
        except ValueError:
            key = b""
        if len(key) != 32:
            raise ConfigError(f"COORDINATOR_{name} must be 32 bytes in hex")
        return key
