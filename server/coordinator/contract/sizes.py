"""Weights of transactions and their parts (BIP141), and what follows from them: fees and dust.

Weights are in weight units (wu); 4 wu are one virtual byte (vB). Fee rates are in sat/vB and may be
fractional; they are taken to the nearest 1/1000 sat/vB (Bitcoin Core's sat/kvB), and from there on everything
is integer arithmetic, so that every party computes the same fee.
"""

import math

from coordinator.contract.errors import InvalidParameters

MAX_FEE_RATE_SAT_VB = 10_000
"""Above this a fee rate is a mistake of units (sat/kvB, msat), not a wish."""

MAX_MONEY_SATS = 21_000_000 * 100_000_000

OVERHEAD_WEIGHT = 42
"""Version, lock time, one-byte counts of inputs and outputs: 10 bytes; segwit marker and flag: 2 wu."""

INPUT_WEIGHT = 4 * (36 + 1 + 4)
"""Outpoint, empty scriptSig and sequence of a segwit input, without its witness."""

P2TR_KEY_INPUT_WEIGHT = INPUT_WEIGHT + 66
"""A taproot key-path input with a 64-byte signature (SIGHASH_DEFAULT)."""

_DUST_RATE_SAT_VB = 3


def compact_size(count: int) -> int:
    """Bytes of a CompactSize integer."""
    return 1 if count < 0xFD else 3 if count <= 0xFFFF else 5


def output_weight(script_pubkey: bytes) -> int:
    """Weight of an output with this script."""
    return 4 * (8 + compact_size(len(script_pubkey)) + len(script_pubkey))


def witness_weight(*item_lengths: int) -> int:
    """Weight of a witness stack with items of these lengths in bytes."""
    return compact_size(len(item_lengths)) + sum(compact_size(n) + n for n in item_lengths)


def count_weight(inputs: int, outputs: int) -> int:
    """What the counts of inputs and outputs weigh beyond the one byte each in `OVERHEAD_WEIGHT`."""
    return 4 * (compact_size(inputs) + compact_size(outputs) - 2)


def virtual_size(weight: int) -> int:
    """Virtual bytes, rounded up (BIP141)."""
    return -(-weight // 4)


def fee_rate_sat_kvb(fee_rate_sat_vb: float) -> int:
    """A fee rate in whole sat per 1000 vB.

    Raises:
        InvalidParameters: Not a number, less than 1/1000 sat/vB, or above `MAX_FEE_RATE_SAT_VB`.
    """
    if not math.isfinite(fee_rate_sat_vb) or not 0.001 <= fee_rate_sat_vb <= MAX_FEE_RATE_SAT_VB:
        raise InvalidParameters(
            f"must be 0.001 to {MAX_FEE_RATE_SAT_VB:,} sat/vB, is {fee_rate_sat_vb}", field="fee_rate_sat_vb"
        )
    return round(fee_rate_sat_vb * 1000)


def fee_sats(weight: int, fee_rate_sat_vb: float) -> int:
    """Fee of a transaction of this weight, rounded up.

    Raises:
        InvalidParameters: The fee rate is out of range.
    """
    return -(-virtual_size(weight) * fee_rate_sat_kvb(fee_rate_sat_vb) // 1000)


def is_witness_program(script_pubkey: bytes) -> bool:
    """Whether a script is a segwit output of any version (BIP141)."""
    return (
        4 <= len(script_pubkey) <= 42
        and (script_pubkey[0] == 0 or 0x51 <= script_pubkey[0] <= 0x60)
        and script_pubkey[1] == len(script_pubkey) - 2
    )


def is_p2tr(script_pubkey: bytes) -> bool:
    """Whether a script is a taproot output (BIP341)."""
    return len(script_pubkey) == 34 and script_pubkey[:2] == b"\x51\x20"


def dust_limit_sats(script_pubkey: bytes) -> int:
    """The least value that nodes relay for an output: its cost and its spending's at 3 sat/vB.

    Bitcoin Core's `GetDustThreshold`: 330 sats for P2TR and P2WSH, 294 for P2WPKH, 546 for P2PKH.
    """
    spend_vbytes = 67 if is_witness_program(script_pubkey) else 148
    return _DUST_RATE_SAT_VB * (output_weight(script_pubkey) // 4 + spend_vbytes)
