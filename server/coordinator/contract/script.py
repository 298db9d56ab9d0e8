"""Bitcoin script: opcodes and pushes, and the leaf scripts of the contract."""

from coordinator.contract.errors import InvalidParameters

OP_DROP = b"\x75"
OP_EQUALVERIFY = b"\x88"
OP_SHA256 = b"\xa8"
OP_CHECKSIG = b"\xac"
OP_CSV = b"\xb2"
OP_RETURN = 0x6A


def push(data: bytes) -> bytes:
    """Push up to 75 bytes."""
    if not 1 < len(data) <= 75:
        raise InvalidParameters("a direct push has 2 to 75 bytes")
    return bytes((len(data),)) + data


def push_number(number: int) -> bytes:
    """Push a number minimally (BIP62 rule 3, policy ``MINIMALDATA``)."""
    if number < 0:
        raise InvalidParameters("the contract's scripts have no negative numbers")
    if number == 0:
        return b"\x00"
    if number <= 16:
        return bytes((0x50 + number,))
    # Little-endian; a byte more where the top bit, which is the sign, would be set.
    data = number.to_bytes(number.bit_length() // 8 + 1, "little")
    return bytes((len(data),)) + data


def p2tr_script(output_key: bytes) -> bytes:
    """``OP_1 <x-only output key>`` (BIP341)."""
    return b"\x51\x20" + output_key


def split_leaf(ticket_hash: bytes, outcome_key: bytes) -> bytes:
    """Outcome output, a winner's path into the split transaction.

    ``OP_SHA256 <ticket_hash> OP_EQUALVERIFY <x-only outcome key> OP_CHECKSIG``; the split transaction's
    relative lock time is in its pre-signed sequence.
    """
    return OP_SHA256 + push(ticket_hash) + OP_EQUALVERIFY + push(outcome_key) + OP_CHECKSIG


def reclaim_leaf(market_maker_key: bytes, delta_blocks: int) -> bytes:
    """Outcome and split outputs, back to the market maker: ``<2*delta> OP_CSV OP_DROP <mm> OP_CHECKSIG``."""
    return push_number(2 * delta_blocks) + OP_CSV + OP_DROP + push(market_maker_key) + OP_CHECKSIG


def win_leaf(ticket_hash: bytes, player_key: bytes, delta_blocks: int) -> bytes:
    """Split output, to the winner.

    ``<delta> OP_CSV OP_DROP OP_SHA256 <ticket_hash> OP_EQUALVERIFY <player> OP_CHECKSIG``.
    """
    wait = push_number(delta_blocks) + OP_CSV + OP_DROP
    return wait + OP_SHA256 + push(ticket_hash) + OP_EQUALVERIFY + push(player_key) + OP_CHECKSIG


def sellback_leaf(payout_hash: bytes, market_maker_key: bytes) -> bytes:
    """Split output, bought back: ``OP_SHA256 <payout_hash> OP_EQUALVERIFY <mm> OP_CHECKSIG``."""
    return OP_SHA256 + push(payout_hash) + OP_EQUALVERIFY + push(market_maker_key) + OP_CHECKSIG
