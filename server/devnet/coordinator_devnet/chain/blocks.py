"""Blocks: reading headers, and building blocks that regtest's consensus accepts."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from .transactions import (
    COINBASE_OUTPOINT,
    Reader,
    Transaction,
    TxInput,
    TxOutput,
    compact_size,
    sha256d,
    with_length,
)

REGTEST_BITS = 0x207FFFFF
MAX_BLOCK_WEIGHT = 4_000_000
COINBASE_MATURITY_BLOCKS = 100
MAX_FUTURE_SECONDS = 7200
"""How far a block's time may be ahead of the clock of the node that checks it."""

_HALVING_BLOCKS = 150
_INITIAL_SUBSIDY_SATS = 50 * 100_000_000
_VERSION = 0x20000000
_MEDIAN_BLOCKS = 11


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """The 80 bytes that are hashed, decoded; hashes in display order."""

    raw: bytes
    version: int
    previous_hash: str
    merkle_root: str
    time_at: int
    bits: int
    nonce: int

    @property
    def block_hash(self) -> str:
        """The block's hash in display order."""
        return sha256d(self.raw)[::-1].hex()


def parse_header(block: bytes) -> BlockHeader:
    """Decode the first 80 bytes of a block."""
    raw = block[:80]
    reader = Reader(raw)
    return BlockHeader(
        raw,
        reader.number(4),
        reader.take(32)[::-1].hex(),
        reader.take(32)[::-1].hex(),
        reader.number(4),
        reader.number(4),
        reader.number(4),
    )


def parse_transactions(block: bytes) -> tuple[Transaction, ...]:
    """The transactions of a block that the kernel has accepted."""
    reader = Reader(block[80:])
    return tuple(reader.transaction() for _ in range(reader.count()))


def subsidy_sats(height: int) -> int:
    """New coins of a block; regtest halves every 150 blocks."""
    halvings = height // _HALVING_BLOCKS
    return _INITIAL_SUBSIDY_SATS >> halvings if halvings < 64 else 0


def median_time(times: Sequence[int]) -> int:
    """Median of the last (up to) 11 block times (BIP113)."""
    last = sorted(times[-_MEDIAN_BLOCKS:])
    return last[len(last) // 2]


def difficulty(bits: int) -> float:
    """Difficulty relative to the easiest target that mainnet allows."""
    exponent, mantissa = bits >> 24, bits & 0xFFFFFF
    return float(0xFFFF / mantissa) * float(256 ** (0x1D - exponent))


def merkle_root(hashes: Sequence[bytes]) -> bytes:
    """Root of the tree over hashes in internal byte order; an odd one out is paired with itself."""
    level = list(hashes)
    while len(level) > 1:
        level = _parents(level)
    return level[0]


def merkle_branch(hashes: Sequence[bytes], position: int) -> list[bytes]:
    """The siblings that lead from a leaf to the root, deepest first (internal byte order)."""
    branch: list[bytes] = []
    level = list(hashes)
    while len(level) > 1:
        branch.append(level[min(position ^ 1, len(level) - 1)])
        level = _parents(level)
        position //= 2
    return branch


def _parents(level: list[bytes]) -> list[bytes]:
    padded = level + level[-1:] * (len(level) % 2)
    return [sha256d(padded[i] + padded[i + 1]) for i in range(0, len(padded), 2)]


def build_block(
    *,
    previous_hash: str,
    height: int,
    time_at: int,
    transactions: Sequence[Transaction],
    fees_sats: int,
    coinbase_script: bytes,
) -> bytes:
    """A block with proof of work on top of `previous_hash`, paying subsidy and fees to one script.

    Args:
        transactions: without the coinbase, parents before children.
        fees_sats: the sum of their fees.
    """
    coinbase = _coinbase(height, subsidy_sats(height) + fees_sats, coinbase_script, transactions)
    txids = [bytes.fromhex(tx.txid)[::-1] for tx in (coinbase, *transactions)]
    prefix = (
        _VERSION.to_bytes(4, "little")
        + bytes.fromhex(previous_hash)[::-1]
        + merkle_root(txids)
        + time_at.to_bytes(4, "little")
        + REGTEST_BITS.to_bytes(4, "little")
    )
    body = compact_size(1 + len(transactions)) + b"".join(tx.raw for tx in (coinbase, *transactions))
    return _mine(prefix) + body


def _coinbase(
    height: int, value_sats: int, script: bytes, transactions: Sequence[Transaction]
) -> Transaction:
    # BIP34 height, then random bytes: blocks of competing branches must not share a coinbase.
    number = height.to_bytes(height.bit_length() // 8 + 1, "little")
    height_push = bytes([0x50 + height]) if 1 <= height <= 16 else with_length(number)
    # BIP141: the coinbase counts as zero in the tree of witness hashes, which is hashed with a reserved
    # value.
    reserved = bytes(32)
    witness_root = merkle_root([bytes(32), *(sha256d(tx.raw) for tx in transactions)])
    commitment = b"\x6a\x24\xaa\x21\xa9\xed" + sha256d(witness_root + reserved)
    return Transaction(
        version=2,
        inputs=(
            TxInput(COINBASE_OUTPOINT, height_push + with_length(os.urandom(8)), 0xFFFFFFFF, (reserved,)),
        ),
        outputs=(TxOutput(value_sats, script), TxOutput(0, commitment)),
        locktime=0,
    )


def _mine(prefix: bytes) -> bytes:
    target = (REGTEST_BITS & 0xFFFFFF) << 8 * ((REGTEST_BITS >> 24) - 3)
    for nonce in range(1 << 32):
        header = prefix + nonce.to_bytes(4, "little")
        if int.from_bytes(sha256d(header), "little") <= target:
            return header
    raise AssertionError("unreachable: every other hash meets regtest's target")
