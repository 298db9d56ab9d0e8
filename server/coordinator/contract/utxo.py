"""Transaction outputs, spent and unspent."""

import re
from dataclasses import dataclass
from typing import Self

from coordinator.contract.errors import InvalidParameters
from coordinator.contract.sizes import MAX_MONEY_SATS, dust_limit_sats

SEQUENCE_FINAL_NO_RBF = 0xFFFFFFFE
"""Lock time enabled, no relative lock (BIP68), replacement not signalled (BIP125)."""
SEQUENCE_RBF = 0xFFFFFFFD
"""No relative lock (BIP68), replacement signalled (BIP125)."""

_TXID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, order=True)
class OutPoint:
    """An output of a transaction; `txid` is lower-case hex in display order (byte-reversed).

    Raises:
        InvalidParameters: Not a txid, or no output index.
    """

    txid: str
    vout: int

    def __post_init__(self) -> None:
        if not _TXID.fullmatch(self.txid):
            raise InvalidParameters("must be 64 lower-case hex digits", field="txid")
        if not 0 <= self.vout < 0xFFFFFFFF:
            raise InvalidParameters(f"no output index: {self.vout}", field="vout")

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `txid:vout`, as `str()` writes it.

        Raises:
            InvalidParameters: Not of that form.
        """
        txid, _, vout = text.partition(":")
        if not re.fullmatch(r"0|[1-9][0-9]{0,9}", vout):
            raise InvalidParameters("must be txid:vout", field="outpoint")
        return cls(txid, int(vout))

    def __str__(self) -> str:
        return f"{self.txid}:{self.vout}"


@dataclass(frozen=True, slots=True)
class Output:
    """A transaction output: where it pays and how much.

    Raises:
        InvalidParameters: The value is negative or more than there is.
    """

    script_pubkey: bytes
    value_sats: int

    def __post_init__(self) -> None:
        if not 0 <= self.value_sats <= MAX_MONEY_SATS:
            raise InvalidParameters(f"impossible amount: {self.value_sats} sats", field="value_sats")

    @property
    def is_dust(self) -> bool:
        """Whether nodes would refuse to relay it for its small value."""
        return self.value_sats < dust_limit_sats(self.script_pubkey)


@dataclass(frozen=True, slots=True)
class Coin:
    """An unspent output."""

    outpoint: OutPoint
    value_sats: int
    script_pubkey: bytes

    @property
    def output(self) -> Output:
        return Output(self.script_pubkey, self.value_sats)
