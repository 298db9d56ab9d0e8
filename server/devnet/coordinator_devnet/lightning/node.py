"""One Lightning node of the devnet: makes invoices and pays them, by LND's rules."""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from coordinator_client import bolt11

from .credentials import Credentials
from .ledger import Ledger, LedgerError
from .records import Invoice, Payment

DEFAULT_EXPIRY_SECONDS = 86_400
MAX_EXPIRY_SECONDS = 31_536_000
DEFAULT_CLTV_EXPIRY_BLOCKS = 80
MIN_CLTV_EXPIRY_BLOCKS = 18
MAX_CLTV_EXPIRY_BLOCKS = 65_535
DEFAULT_CLTV_LIMIT_BLOCKS = 2016
"""How long LND lets an outgoing payment be locked at most (`--max-cltv-expiry`)."""
MAX_MEMO_BYTES = bolt11.MAX_DESCRIPTION_BYTES

PREFIXES = {"mainnet": "bc", "testnet": "tb", "signet": "tbs", "regtest": "bcrt"}


@dataclass(frozen=True, slots=True)
class PaymentIntent:
    """What a payer asks for: a payment request, or its parts (`destination` and so on).

    `amount_msats` belongs to a payment request without an amount; `cltv_limit_blocks` 0 means the default.
    """

    payment_request: str = ""
    amount_msats: int = 0
    fee_limit_msats: int = 0
    cltv_limit_blocks: int = 0
    destination: bytes = b""
    payment_hash: bytes = b""
    payment_secret: bytes | None = None
    final_cltv_blocks: int = 0


class Node:
    """A node with its own identity, credentials and channel balance.

    Attributes:
        name: what it is called in the devnet; also its alias.
        credentials: its key, certificate and macaroon.
        directory: where `tls.cert` and `admin.macaroon` lie.
        address: `host:port` of its gRPC server, empty until it is started.
    """

    def __init__(
        self,
        name: str,
        *,
        credentials: Credentials,
        directory: Path,
        ledger: Ledger,
        network: str,
        base_fee_msats: int,
        clock: Callable[[], float],
        refresh_height: Callable[[], Awaitable[int]],
        node_by_pubkey: Callable[[bytes], str | None],
    ) -> None:
        self.name = name
        self.credentials = credentials
        self.directory = directory
        self.address = ""
        self.ledger = ledger
        self.network = network
        self._base_fee_msats = base_fee_msats
        self._clock = clock
        self._refresh_height = refresh_height
        self._node_by_pubkey = node_by_pubkey

    @property
    def tls_cert_path(self) -> Path:
        """The certificate that clients trust, PEM."""
        return self.directory / "tls.cert"

    @property
    def macaroon_path(self) -> Path:
        """The macaroon that clients send, binary."""
        return self.directory / "admin.macaroon"

    @property
    def macaroon_hex(self) -> str:
        """The macaroon as it is sent in the `macaroon` metadata."""
        return self.credentials.macaroon.hex()

    def add_invoice(
        self,
        *,
        value_msats: int,
        payment_hash: bytes | None = None,
        preimage: bytes | None = None,
        memo: str = "",
        description_hash: bytes | None = None,
        expiry_seconds: int = 0,
        cltv_expiry_blocks: int = 0,
    ) -> Invoice:
        """Add an invoice: a hold invoice for `payment_hash`, else a usual one (`preimage` None: random).

        Zero means the default for expiry and CLTV, and "any amount" for the value.

        Raises:
            LedgerError: a value is out of bounds, or an invoice with this hash exists.
        """
        if payment_hash is None:
            preimage = preimage or secrets.token_bytes(32)
            _check_length("preimage", preimage)
            payment_hash = sha256(preimage).digest()
        elif preimage is not None:
            raise LedgerError("preimage and hash are mutually exclusive")
        _check_length("hash", payment_hash)
        if value_msats < 0:
            raise LedgerError(f"payments of negative value are not allowed, value is {value_msats} mSAT")
        if len(memo.encode()) > MAX_MEMO_BYTES:
            raise LedgerError(f"memo too large: {len(memo.encode())} bytes (maxsize={MAX_MEMO_BYTES})")
        if description_hash is not None and len(description_hash) != 32:
            raise LedgerError(f"description hash is {len(description_hash)} bytes, must be 32")
        if expiry_seconds < 0:
            raise LedgerError(f"expiry of {expiry_seconds} seconds must not be negative")
        if expiry_seconds > MAX_EXPIRY_SECONDS:
            raise LedgerError(
                f"expiry of {expiry_seconds} seconds greater than max expiry of {MAX_EXPIRY_SECONDS} seconds"
            )
        if cltv_expiry_blocks > MAX_CLTV_EXPIRY_BLOCKS:
            raise LedgerError(
                f"CLTV delta of {cltv_expiry_blocks} is too large, max accepted is: {MAX_CLTV_EXPIRY_BLOCKS}"
            )
        if 0 < cltv_expiry_blocks < MIN_CLTV_EXPIRY_BLOCKS:
            raise LedgerError(
                f"CLTV delta of {cltv_expiry_blocks} must be greater than minimum of {MIN_CLTV_EXPIRY_BLOCKS}"
            )

        created_at = int(self._clock())
        expiry_seconds = expiry_seconds or DEFAULT_EXPIRY_SECONDS
        cltv_expiry_blocks = cltv_expiry_blocks or DEFAULT_CLTV_EXPIRY_BLOCKS
        payment_secret = secrets.token_bytes(32)
        return self.ledger.add_invoice(
            self.name,
            payment_hash=payment_hash,
            preimage=preimage,
            memo=memo,
            description_hash=description_hash,
            value_msats=value_msats,
            created_at=created_at,
            expiry_seconds=expiry_seconds,
            cltv_expiry_blocks=cltv_expiry_blocks,
            payment_secret=payment_secret,
            payment_request=bolt11.encode(
                self.credentials.key,
                network=PREFIXES[self.network],
                payment_hash=payment_hash,
                created_at=created_at,
                amount_msats=value_msats or None,
                description=memo if description_hash is None else None,
                description_hash=description_hash,
                expiry_seconds=expiry_seconds,
                min_final_cltv_blocks=cltv_expiry_blocks,
                payment_secret=payment_secret,
                features=(
                    bolt11.VAR_ONION_REQUIRED,
                    bolt11.PAYMENT_SECRET_REQUIRED,
                    bolt11.BASIC_MPP_OPTIONAL,
                ),
            ),
        )

    def decode(self, payment_request: str) -> bolt11.PaymentRequest:
        """Decode a payment request of this network.

        Raises:
            LedgerError: it is malformed or of another network.
        """
        try:
            request = bolt11.decode(payment_request)
        except bolt11.Bolt11Error as error:
            raise LedgerError(str(error)) from None
        if request.network != PREFIXES[self.network]:
            raise LedgerError(f"invoice not for current active network '{self.network}'")
        return request

    async def pay(self, intent: PaymentIntent) -> Payment:
        """Start the payment and bring its HTLC to the payee; how it ends is seen by `Ledger.payment_changes`.

        Raises:
            PaymentExists: it is in flight or has succeeded.
            LedgerError: the intent makes no sense, the request has expired, or the chain is not known yet.
        """
        if intent.payment_request:
            intent = self._from_request(intent)
        if len(intent.destination) != 33:
            raise LedgerError(f"invalid vertex length of {len(intent.destination)}, want 33")
        _check_length("hash", intent.payment_hash)
        if intent.amount_msats <= 0:
            raise LedgerError("amount must be specified")
        if intent.destination == self.credentials.pubkey:
            raise LedgerError("self-payments not allowed")
        final_cltv_blocks = intent.final_cltv_blocks or DEFAULT_CLTV_EXPIRY_BLOCKS
        cltv_limit_blocks = intent.cltv_limit_blocks or DEFAULT_CLTV_LIMIT_BLOCKS
        if final_cltv_blocks > cltv_limit_blocks:
            raise LedgerError(f"cltv limit {cltv_limit_blocks} should be greater than {final_cltv_blocks}")

        height = await self._refresh_height()
        self.ledger.start_payment(
            self.name,
            payee=self._node_by_pubkey(intent.destination),
            destination=intent.destination,
            payment_hash=intent.payment_hash,
            payment_secret=intent.payment_secret,
            payment_request=intent.payment_request,
            amount_msats=intent.amount_msats,
            fee_msats=self._base_fee_msats,
            fee_limit_msats=intent.fee_limit_msats,
            expiry_height=height + final_cltv_blocks,
        )
        self.ledger.deliver(height)
        return self.ledger.payment(self.name, intent.payment_hash)

    def _from_request(self, intent: PaymentIntent) -> PaymentIntent:
        if intent.destination or intent.payment_hash or intent.final_cltv_blocks or intent.payment_secret:
            raise LedgerError(
                "dest, payment_hash, final_cltv_delta and payment_request cannot appear together"
            )
        request = self.decode(intent.payment_request)
        if request.expires_at < self._clock():
            raise LedgerError(f"invoice expired. Valid until {request.expires_at}")
        if request.amount_msats is None and not intent.amount_msats:
            raise LedgerError("amount must be specified when paying a zero amount invoice")
        if request.amount_msats is not None and intent.amount_msats:
            raise LedgerError("amount must not be specified when paying a non-zero amount invoice")
        return PaymentIntent(
            payment_request=intent.payment_request,
            amount_msats=request.amount_msats or intent.amount_msats,
            fee_limit_msats=intent.fee_limit_msats,
            cltv_limit_blocks=intent.cltv_limit_blocks,
            destination=request.payee,
            payment_hash=request.payment_hash,
            payment_secret=request.payment_secret,
            final_cltv_blocks=request.min_final_cltv_blocks,
        )


def _check_length(what: str, value: bytes) -> None:
    if len(value) != 32:
        raise LedgerError(f"invalid {what} length of {len(value)}, want 32")
