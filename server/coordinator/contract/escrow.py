# mypy: disable-error-code="no-untyped-call"
"""The escrow of a ticket, between a player's payment and the contract's funding.

`wsh(or_d(multi(2,coordinator,player),and_v(v:pk(player),and_v(v:sha256(ticket_hash),older(144)))))` has three
ways out:

- **funding**: both sign the funding transaction (`coordinator.contract.funding`), at any time;
- **clawback**: the player alone, with the ticket preimage, from block `ESCROW_CLAWBACK_BLOCKS` on;
- **release**: a transaction back to the coordinator, which both sign in advance, the player before the escrow
  is broadcast. Its input has a relative lock (BIP68) of `release_blocks`, fixed for all escrows of a
  competition when the escrow transaction is planned.

The player learns the ticket preimage only by its payment being settled. If the coordinator settles and does
not fund, the player can claw back from block 144 on, at least 144 blocks before the release becomes valid:
signing the release in advance is safe for the player. For those 144 blocks to be there in full the payment
must be settled 144 blocks before the release at the latest: before it signs, a player checks that its HTLC
expires at most `covered_blocks` above the tip. See docs/escrow.md, also for what the escrow does not cover.
"""

from dataclasses import dataclass
from functools import cached_property

from embit.descriptor.checksum import add_checksum
from embit.descriptor.descriptor import Descriptor
from embit.ec import PrivateKey
from embit.script import Script

from coordinator.contract.errors import (
    InvalidParameters,
    InvalidPreimage,
    InvalidSignature,
    InvalidTransaction,
    SigningError,
)
from coordinator.contract.network import Network
from coordinator.contract.secp import hash256, is_point, parse_point, parse_secret, public_key, sha256
from coordinator.contract.sizes import INPUT_WEIGHT, OVERHEAD_WEIGHT, fee_sats, output_weight, witness_weight
from coordinator.contract.tx import SIGHASH_ALL, Input, Transaction, outpoint_bytes, output_bytes, with_size
from coordinator.contract.utxo import OutPoint, Output

ESCROW_CLAWBACK_BLOCKS = 144
"""Confirmations of the escrow after which the player and the ticket preimage can spend it."""

LEAST_RELEASE_BLOCKS = 2 * ESCROW_CLAWBACK_BLOCKS
"""Fewest confirmations of the escrow after which a pre-signed release may be valid. Also those of every
escrow from before the number was part of what is agreed."""

MOST_RELEASE_BLOCKS = 0xFFFF
"""Longest relative lock in blocks: BIP68 takes 16 bits for it, and ignores the higher ones or reads something
else into them."""

# Longest ECDSA signature with a low S: 71 bytes of DER, and the sighash byte. What the other party will hand
# in is not known beforehand, and one byte of fee is not worth grinding for.
_MAX_SIGNATURE_BYTES = 72
_WITNESS_SCRIPT_BYTES = 152

COOPERATIVE_INPUT_WEIGHT = INPUT_WEIGHT + witness_weight(
    0, _MAX_SIGNATURE_BYTES, _MAX_SIGNATURE_BYTES, _WITNESS_SCRIPT_BYTES
)
"""Greatest weight of an escrow input with both signatures."""

CLAWBACK_INPUT_WEIGHT = INPUT_WEIGHT + witness_weight(
    32, _MAX_SIGNATURE_BYTES, 0, 0, 0, _WITNESS_SCRIPT_BYTES
)
"""Greatest weight of an escrow input with preimage and player's signature."""


@dataclass(frozen=True)
class Escrow:
    """A ticket's escrow output.

    Args:
        coordinator_pubkey: Coordinator's key in this escrow, 33 bytes.
        player_pubkey: Player's ephemeral key, 33 bytes.
        ticket_hash: SHA256 of the ticket preimage, 32 bytes; also the payment hash of the ticket's invoice.

    Raises:
        InvalidParameters: A key or the hash is malformed, or both keys are the same.
    """

    coordinator_pubkey: bytes
    player_pubkey: bytes
    ticket_hash: bytes

    def __post_init__(self) -> None:
        for field in ("coordinator_pubkey", "player_pubkey"):
            if not is_point(getattr(self, field)):
                raise InvalidParameters("must be a compressed public key of 33 bytes", field=field)
        if self.coordinator_pubkey == self.player_pubkey:
            raise InvalidParameters("must differ from the coordinator's", field="player_pubkey")
        if len(self.ticket_hash) != 32:
            raise InvalidParameters("must be 32 bytes", field="ticket_hash")

    @property
    def miniscript(self) -> str:
        """The spending policy (https://bitcoin.sipa.be/miniscript)."""
        coordinator, player = self.coordinator_pubkey.hex(), self.player_pubkey.hex()
        return (
            f"or_d(multi(2,{coordinator},{player}),"
            f"and_v(v:pk({player}),and_v(v:sha256({self.ticket_hash.hex()}),older({ESCROW_CLAWBACK_BLOCKS}))))"
        )

    @property
    def descriptor(self) -> str:
        """Output descriptor with checksum (BIP380, BIP382), as Bitcoin Core imports it."""
        return str(add_checksum(f"wsh({self.miniscript})"))

    @cached_property
    def witness_script(self) -> bytes:
        """The script that the miniscript compiles to, 152 bytes."""
        return bytes(Descriptor.from_string(f"wsh({self.miniscript})").witness_script().data)

    @cached_property
    def script_pubkey(self) -> bytes:
        """P2WSH output script (BIP141)."""
        return b"\x00\x20" + sha256(self.witness_script)

    def address(self, network: Network) -> str:
        """Address on a network (BIP173)."""
        return str(Script(self.script_pubkey).address(network.prefixes))

    def sighash(self, transaction: Transaction, index: int, value_sats: int) -> bytes:
        """BIP143 signature hash (SIGHASH_ALL) of the input that spends this escrow."""
        inputs, outputs, spending = transaction.inputs, transaction.outputs, transaction.inputs[index]
        return hash256(
            transaction.version.to_bytes(4, "little", signed=True)
            + hash256(b"".join(outpoint_bytes(txin.outpoint) for txin in inputs))
            + hash256(b"".join(txin.sequence.to_bytes(4, "little") for txin in inputs))
            + outpoint_bytes(spending.outpoint)
            + with_size(self.witness_script)
            + value_sats.to_bytes(8, "little")
            + spending.sequence.to_bytes(4, "little")
            + hash256(b"".join(output_bytes(out.value_sats, out.script_pubkey) for out in outputs))
            + transaction.lock_time.to_bytes(4, "little")
            + SIGHASH_ALL.to_bytes(4, "little")
        )

    def sign(self, secret: bytes, sighash: bytes) -> bytes:
        """DER signature with low S (and low R) and the SIGHASH_ALL byte, of either party.

        Raises:
            InvalidScalar: Not a secret key.
            SigningError: The key is neither the coordinator's nor the player's.
        """
        parse_secret(secret)
        if public_key(secret) not in (self.coordinator_pubkey, self.player_pubkey):
            raise SigningError("the key is neither the coordinator's nor the player's of this escrow")
        return bytes(PrivateKey(secret).sign(sighash).serialize()) + bytes([SIGHASH_ALL])

    def cooperative_witness(
        self, sighash: bytes, coordinator_signature: bytes, player_signature: bytes
    ) -> tuple[bytes, ...]:
        """Witness of the 2-of-2 branch.

        Raises:
            InvalidSignature: A signature does not verify; says whose.
        """
        for who, key, signature in (
            ("coordinator", self.coordinator_pubkey, coordinator_signature),
            ("player", self.player_pubkey, player_signature),
        ):
            if not verify_signature(key, signature, sighash):
                raise InvalidSignature(f"the {who}'s signature over the escrow's spending is not valid")
        # CHECKMULTISIG takes one element too many: the empty one (BIP147).
        return b"", coordinator_signature, player_signature, self.witness_script


def verify_signature(pubkey: bytes, signature: bytes, sighash: bytes) -> bool:
    """Whether an ECDSA signature is valid, in strict DER (BIP66), with low S and the SIGHASH_ALL byte."""
    if not 9 <= len(signature) <= _MAX_SIGNATURE_BYTES or signature[-1] != SIGHASH_ALL:
        return False
    try:
        # libsecp256k1 parses strict DER only, and its verification refuses a high S.
        return parse_point(pubkey).verify(signature[:-1], sighash, hasher=None)
    except ValueError:
        return False


def release_transaction(
    escrow_outpoint: OutPoint,
    value_sats: int,
    escrow: Escrow,
    destination_script: bytes,
    fee_rate_sat_vb: float,
    release_blocks: int,
) -> bytes:
    """The unsigned release of one escrow: one input, one output, relative lock of `release_blocks`.

    Both sides build it from the same values and so get the same bytes.

    Args:
        escrow_outpoint: The escrow's output in the escrow transaction.
        value_sats: Value of that output.
        destination_script: Where the coordinator wants it back.
        fee_rate_sat_vb: Fixed when the competition is made. If it turns out too low, the coordinator spends
            the output with a higher fee (child pays for parent).
        release_blocks: Confirmations of the escrow from which on it is valid.

    Raises:
        InvalidTransaction: Nothing above dust is left after the fee.
        InvalidParameters: The fee rate is out of range, or `release_blocks` is.
    """
    _check_release_blocks(release_blocks)
    transaction = _single_output(
        escrow_outpoint,
        value_sats,
        destination_script,
        fee_rate_sat_vb,
        sequence=release_blocks,
        input_weight=COOPERATIVE_INPUT_WEIGHT,
    )
    return transaction.serialize()


def covered_blocks(release_blocks: int) -> int:
    """For how many blocks from a release's signing the payment may still be settled, at most, so that the
    player has `ESCROW_CLAWBACK_BLOCKS` for the clawback afterwards. The escrow confirms later than that.

    Raises:
        InvalidParameters: `release_blocks` is out of range.
    """
    _check_release_blocks(release_blocks)
    return release_blocks - ESCROW_CLAWBACK_BLOCKS


def release_sighash(
    unsigned_transaction: bytes, value_sats: int, escrow: Escrow, release_blocks: int
) -> bytes:
    """Signature hash of a release.

    Raises:
        InvalidTransaction: It is no release, or has another relative lock than the one agreed: signing
            anything with a shorter one would endanger the player.
        InvalidParameters: `release_blocks` is out of range.
    """
    return escrow.sighash(_parse_release(unsigned_transaction, value_sats, release_blocks), 0, value_sats)


def sign_release(
    secret: bytes, unsigned_transaction: bytes, value_sats: int, escrow: Escrow, release_blocks: int
) -> bytes:
    """Signature of either party over a release: DER with low S, and the SIGHASH_ALL byte.

    Sign only what `release_transaction` built from an outpoint that was checked (`EscrowBatch`).

    Raises:
        InvalidTransaction: It is no release with the relative lock agreed.
        InvalidParameters: `release_blocks` is out of range.
        InvalidScalar: Not a secret key.
        SigningError: The key is not of this escrow.
    """
    return escrow.sign(secret, release_sighash(unsigned_transaction, value_sats, escrow, release_blocks))


def verify_release_signature(
    pubkey: bytes,
    signature: bytes,
    unsigned_transaction: bytes,
    value_sats: int,
    escrow: Escrow,
    release_blocks: int,
) -> bool:
    """Whether a signature over a release is valid for one of the escrow's keys.

    Raises:
        InvalidTransaction: It is no release with the relative lock agreed.
        InvalidParameters: `release_blocks` is out of range.
    """
    if pubkey not in (escrow.coordinator_pubkey, escrow.player_pubkey):
        return False
    sighash = release_sighash(unsigned_transaction, value_sats, escrow, release_blocks)
    return verify_signature(pubkey, signature, sighash)


def complete_release(
    unsigned_transaction: bytes,
    value_sats: int,
    escrow: Escrow,
    release_blocks: int,
    coordinator_signature: bytes,
    player_signature: bytes,
) -> bytes:
    """The release ready for broadcast, once the escrow has `release_blocks` confirmations.

    Raises:
        InvalidTransaction: It is no release with the relative lock agreed.
        InvalidParameters: `release_blocks` is out of range.
        InvalidSignature: A signature does not verify.
    """
    transaction = _parse_release(unsigned_transaction, value_sats, release_blocks)
    sighash = escrow.sighash(transaction, 0, value_sats)
    witness = escrow.cooperative_witness(sighash, coordinator_signature, player_signature)
    return transaction.with_witness(0, witness).serialize()


def clawback_transaction(
    escrow_outpoint: OutPoint,
    value_sats: int,
    escrow: Escrow,
    destination_script: bytes,
    fee_rate_sat_vb: float,
    player_secret: bytes,
    ticket_preimage: bytes,
) -> bytes:
    """The player's own way out, ready for broadcast after `ESCROW_CLAWBACK_BLOCKS` confirmations.

    Raises:
        InvalidPreimage: The preimage is not 32 bytes or does not hash to the ticket hash.
        InvalidScalar: Not a secret key.
        SigningError: The key is not the player's.
        InvalidTransaction: Nothing above dust is left after the fee.
        InvalidParameters: The fee rate is out of range.
    """
    if len(ticket_preimage) != 32 or sha256(ticket_preimage) != escrow.ticket_hash:
        raise InvalidPreimage("the preimage does not hash to the ticket hash", field="ticket_preimage")
    if public_key(player_secret) != escrow.player_pubkey:
        raise SigningError("the key is not the player's of this escrow")
    transaction = _single_output(
        escrow_outpoint,
        value_sats,
        destination_script,
        fee_rate_sat_vb,
        sequence=ESCROW_CLAWBACK_BLOCKS,
        input_weight=CLAWBACK_INPUT_WEIGHT,
    )
    signature = escrow.sign(player_secret, escrow.sighash(transaction, 0, value_sats))
    # Three empty elements dissatisfy the 2-of-2 (two signatures and CHECKMULTISIG's extra one).
    witness = (ticket_preimage, signature, b"", b"", b"", escrow.witness_script)
    return transaction.with_witness(0, witness).serialize()


def _single_output(
    outpoint: OutPoint,
    value_sats: int,
    destination_script: bytes,
    fee_rate_sat_vb: float,
    *,
    sequence: int,
    input_weight: int,
) -> Transaction:
    fee = fee_sats(OVERHEAD_WEIGHT + input_weight + output_weight(destination_script), fee_rate_sat_vb)
    if value_sats <= fee:
        raise InvalidTransaction(
            f"a fee of {fee} sats leaves nothing of {value_sats} sats", field="value_sats"
        )
    output = Output(destination_script, value_sats - fee)
    if output.is_dust:
        raise InvalidTransaction(
            f"a fee of {fee} sats leaves only dust of {value_sats} sats", field="value_sats"
        )
    return Transaction((Input(outpoint, sequence),), (output,))


def _check_release_blocks(release_blocks: int) -> None:
    if not LEAST_RELEASE_BLOCKS <= release_blocks <= MOST_RELEASE_BLOCKS:
        raise InvalidParameters(
            f"must be {LEAST_RELEASE_BLOCKS} to {MOST_RELEASE_BLOCKS} blocks", field="release_blocks"
        )


def _parse_release(raw: bytes, value_sats: int, release_blocks: int) -> Transaction:
    _check_release_blocks(release_blocks)
    transaction = Transaction.parse(raw)
    expected = Input(transaction.inputs[0].outpoint, release_blocks) if transaction.inputs else None
    if (
        transaction.version != 2
        or transaction.lock_time != 0
        or transaction.inputs != (expected,)
        or len(transaction.outputs) != 1
        or not 0 < transaction.outputs[0].value_sats < value_sats
    ):
        raise InvalidTransaction("not an unsigned release of an escrow", field="unsigned_transaction")
    return transaction
