"""Transactions as values: what the index and the mempool ask about them, and their encoding (BIP144)."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from .engine import decodes


class TransactionDecodeError(ValueError):
    """The bytes are not one transaction."""


class Outpoint(NamedTuple):
    """An output, by the transaction that creates it (`txid` in display order)."""

    txid: str
    vout: int


@dataclass(frozen=True, slots=True)
class TxInput:
    """`sequence` is the raw 32-bit field (BIP68)."""

    outpoint: Outpoint
    script_sig: bytes
    sequence: int
    witness: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class TxOutput:
    """An amount and the script that guards it."""

    value_sats: int
    script: bytes


COINBASE_OUTPOINT = Outpoint("00" * 32, 0xFFFFFFFF)


@dataclass(frozen=True)
class Transaction:
    """An immutable transaction; `version` and `locktime` are unsigned as on the wire."""

    version: int
    inputs: tuple[TxInput, ...]
    outputs: tuple[TxOutput, ...]
    locktime: int

    @cached_property
    def raw(self) -> bytes:
        """Consensus encoding, with witnesses when there are any."""
        return self.serialize()

    @cached_property
    def txid(self) -> str:
        """Hash without witnesses, in display order."""
        return sha256d(self.serialize(with_witness=False))[::-1].hex()

    @cached_property
    def stripped_size(self) -> int:
        """Bytes without witnesses."""
        return len(self.serialize(with_witness=False))

    @property
    def size(self) -> int:
        """Bytes with witnesses."""
        return len(self.raw)

    @property
    def weight(self) -> int:
        """Weight units (BIP141)."""
        return 3 * self.stripped_size + self.size

    @property
    def vsize(self) -> int:
        """Virtual bytes: weight / 4, rounded up (BIP141)."""
        return (self.weight + 3) // 4

    @property
    def is_coinbase(self) -> bool:
        """Whether this creates new coins instead of spending some."""
        return len(self.inputs) == 1 and self.inputs[0].outpoint == COINBASE_OUTPOINT

    def serialize(self, *, with_witness: bool = True) -> bytes:
        """Consensus encoding (BIP144)."""
        segwit = with_witness and any(txin.witness for txin in self.inputs)
        parts = [self.version.to_bytes(4, "little")]
        if segwit:
            parts.append(b"\x00\x01")
        parts.append(compact_size(len(self.inputs)))
        for txin in self.inputs:
            parts += [
                serialize_outpoint(txin.outpoint),
                with_length(txin.script_sig),
                txin.sequence.to_bytes(4, "little"),
            ]
        parts.append(compact_size(len(self.outputs)))
        parts += [serialize_output(output) for output in self.outputs]
        if segwit:
            for txin in self.inputs:
                parts.append(compact_size(len(txin.witness)))
                parts += [with_length(item) for item in txin.witness]
        parts.append(self.locktime.to_bytes(4, "little"))
        return b"".join(parts)

    @classmethod
    def parse(cls, raw: bytes) -> "Transaction":
        """Decode exactly one transaction.

        Raises:
            TransactionDecodeError: the kernel does not read the bytes as one transaction.
        """
        # The kernel judges the encoding first, so reading can trust lengths and counts.
        if not decodes(raw):
            raise TransactionDecodeError("not a transaction")
        return Reader(raw).transaction()


def sha256d(data: bytes) -> bytes:
    """SHA256 twice, the hash of transactions and blocks (internal byte order)."""
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def compact_size(value: int) -> bytes:
    """Bitcoin's variable-length count."""
    if value < 0xFD:
        return bytes([value])
    if value <= 0xFFFF:
        return b"\xfd" + value.to_bytes(2, "little")
    if value <= 0xFFFFFFFF:
        return b"\xfe" + value.to_bytes(4, "little")
    return b"\xff" + value.to_bytes(8, "little")


def with_length(data: bytes) -> bytes:
    """The data behind its length."""
    return compact_size(len(data)) + data


def serialize_outpoint(outpoint: Outpoint) -> bytes:
    """36 bytes, the hash in internal order."""
    return bytes.fromhex(outpoint.txid)[::-1] + outpoint.vout.to_bytes(4, "little")


def serialize_output(output: TxOutput) -> bytes:
    """Value, then the script behind its length."""
    return output.value_sats.to_bytes(8, "little") + with_length(output.script)


class Reader:
    """Reads consensus encoding that the kernel has already accepted."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        """The next bytes."""
        start, self._at = self._at, self._at + count
        return self._data[start : self._at]

    def number(self, size: int) -> int:
        """A little-endian unsigned integer."""
        return int.from_bytes(self.take(size), "little")

    def count(self) -> int:
        """A compact size."""
        first = self.number(1)
        return first if first < 0xFD else self.number({0xFD: 2, 0xFE: 4, 0xFF: 8}[first])

    def transaction(self) -> Transaction:
        """One transaction, in either encoding (BIP144)."""
        version = self.number(4)
        segwit = self._data[self._at : self._at + 2] == b"\x00\x01"
        if segwit:
            self.take(2)
        bare = [
            (Outpoint(self.take(32)[::-1].hex(), self.number(4)), self.take(self.count()), self.number(4))
            for _ in range(self.count())
        ]
        outputs = tuple(TxOutput(self.number(8), self.take(self.count())) for _ in range(self.count()))
        witnesses: list[tuple[bytes, ...]] = [()] * len(bare)
        if segwit:
            witnesses = [tuple(self.take(self.count()) for _ in range(self.count())) for _ in bare]
        inputs = tuple(
            TxInput(outpoint, script_sig, sequence, witness)
            for (outpoint, script_sig, sequence), witness in zip(bare, witnesses, strict=True)
        )
        return Transaction(version, inputs, outputs, self.number(4))
