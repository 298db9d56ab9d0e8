"""Completed transactions of a contract, as bytes ready to broadcast.

The pre-signed ones: `outcome_transaction`, `expiry_transaction`, `split_transaction`. All others spend one
or more outputs to one destination: make a `SpendInput` for each and give them to `spend`, which batches, pays
the fee and signs. Lock times are the caller's to wait for: an input made with ``delta`` or ``2*delta`` is
only valid once that many blocks are on top of the transaction it spends.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from coordinator.contract import adaptor, schnorr
from coordinator.contract.dlc import TicketedDLC
from coordinator.contract.errors import (
    InvalidAttestation,
    InvalidPreimage,
    InvalidSignature,
    InvalidTransaction,
    SigningError,
)
from coordinator.contract.musig2 import KeyAggContext, aggregate_secret
from coordinator.contract.payouts import EXPIRY, win_key
from coordinator.contract.script import OP_RETURN
from coordinator.contract.secp import public_key, sha256
from coordinator.contract.sizes import (
    INPUT_WEIGHT,
    OVERHEAD_WEIGHT,
    count_weight,
    dust_limit_sats,
    fee_sats,
    output_weight,
    witness_weight,
)
from coordinator.contract.taproot import TaprootOutput
from coordinator.contract.tx import Input, SighashCache, Transaction
from coordinator.contract.utxo import SEQUENCE_RBF, OutPoint, Output

MAX_FEE_PERCENT = 25
"""A spend that would pay more than this share of its inputs as fee is refused."""

MAX_STANDARD_WEIGHT = 400_000
"""Nodes do not relay heavier transactions."""

_SELLBACK, _WIN, _RECLAIM = range(3)
"""Leaves of a split output, in the order of `TicketedDLC.split_taproot`."""


def outcome_transaction(dlc: TicketedDLC, outcome: str, signature: bytes, attestation: bytes) -> bytes:
    """The outcome transaction, completed with the oracle's attestation.

    Args:
        dlc: The contract.
        outcome: ``att<i>``.
        signature: The outcome's adaptor signature, 65 bytes.
        attestation: The attestation secret, 32 bytes.

    Raises:
        UnknownOutcome: The contract has no such outcome.
        InvalidAttestation: The secret attests to something else, or the outcome is the expiry.
        InvalidSignature: The adaptor signature is not valid.
    """
    if not dlc.is_attestation(outcome, attestation):
        raise InvalidAttestation(f"the secret does not attest to {outcome}")
    completed = adaptor.adapt(signature, attestation)
    return _key_path(dlc, outcome, completed)


def expiry_transaction(dlc: TicketedDLC, signature: bytes) -> bytes:
    """The expiry transaction; valid from the event's expiry on.

    Args:
        dlc: The contract.
        signature: The expiry's signature, 64 bytes.

    Raises:
        UnknownOutcome: The contract does not expire.
        InvalidSignature: The signature is not valid.
    """
    return _key_path(dlc, EXPIRY, signature)


def _key_path(dlc: TicketedDLC, outcome: str, signature: bytes) -> bytes:
    if not schnorr.verify(dlc.funding_key_context.xonly, dlc.outcome_sighash(outcome), signature):
        raise InvalidSignature("does not verify", key=outcome)
    return dlc.outcome_tx(outcome).with_witness(0, [signature]).serialize()


def split_transaction(
    dlc: TicketedDLC, outcome: str, player: int, signature: bytes, ticket_preimage: bytes
) -> bytes:
    """The split transaction, completed with one winner's ticket; valid ``delta`` blocks after the outcome.

    Args:
        dlc: The contract.
        outcome: The outcome whose transaction is spent.
        player: Index of the winner.
        signature: Signature of the win condition ``<outcome>:p<player>``, 64 bytes.
        ticket_preimage: The winner's ticket preimage, 32 bytes.

    Raises:
        UnknownOutcome: The contract has no such win condition.
        InvalidPreimage: Not the ticket's preimage.
        InvalidSignature: The signature is not valid.
    """
    place = dlc.position(outcome, player)
    _check_preimage(ticket_preimage, dlc.parameters.players[player].ticket_hash, "ticket_preimage")
    dlc.verify_signature(win_key(outcome, player), signature)
    output = dlc.outcome_taproot(dlc.winners(outcome))
    witness = (signature, ticket_preimage, output.scripts[place], output.control_block(place))
    return dlc.split_tx(outcome).with_witness(0, witness).serialize()


@dataclass(frozen=True, slots=True)
class SpendInput:
    """An output of a contract and what it takes to spend it. Holds secrets: not shown in its repr.

    Attributes:
        outpoint: The output spent.
        output: Its script and value.
        sequence: With the relative lock time, where there is one.
        witness_lengths: Bytes of each witness item.
    """

    outpoint: OutPoint
    output: Output
    sequence: int
    witness_lengths: tuple[int, ...]
    _sign: Callable[[SighashCache, int], tuple[bytes, ...]] = field(repr=False, compare=False)


def win_input(
    dlc: TicketedDLC, outcome: str, player: int, player_secret: bytes, ticket_preimage: bytes
) -> SpendInput:
    """A winner's split output, taken by the winner ``delta`` blocks after the split.

    Raises:
        UnknownOutcome: The contract has no such win condition.
        InvalidPreimage: Not the ticket's preimage.
        SigningError: Not the winner's secret key.
    """
    winner = dlc.parameters.players[_winner(dlc, outcome, player)]
    _check_preimage(ticket_preimage, winner.ticket_hash, "ticket_preimage")
    _check_key(player_secret, winner.pubkey, "player_secret")
    delta = dlc.parameters.relative_locktime_block_delta
    return _split_leaf(dlc, outcome, player, _WIN, player_secret, (ticket_preimage,), delta)


def sellback_input(
    dlc: TicketedDLC, outcome: str, player: int, market_maker_secret: bytes, payout_preimage: bytes
) -> SpendInput:
    """A winner's split output, taken by the market maker at once with the payout preimage it bought.

    Raises:
        UnknownOutcome: The contract has no such win condition.
        InvalidPreimage: Not the payout's preimage.
        SigningError: Not the market maker's secret key.
    """
    winner = dlc.parameters.players[_winner(dlc, outcome, player)]
    _check_preimage(payout_preimage, winner.payout_hash, "payout_preimage")
    _check_key(market_maker_secret, dlc.parameters.market_maker, "market_maker_secret")
    return _split_leaf(dlc, outcome, player, _SELLBACK, market_maker_secret, (payout_preimage,), SEQUENCE_RBF)


def split_reclaim_input(
    dlc: TicketedDLC, outcome: str, player: int, market_maker_secret: bytes
) -> SpendInput:
    """A winner's split output, reclaimed by the market maker ``2*delta`` blocks after the split.

    Raises:
        UnknownOutcome: The contract has no such win condition.
        SigningError: Not the market maker's secret key.
    """
    _check_key(market_maker_secret, dlc.parameters.market_maker, "market_maker_secret")
    sequence = 2 * dlc.parameters.relative_locktime_block_delta
    return _split_leaf(dlc, outcome, player, _RECLAIM, market_maker_secret, (), sequence)


def outcome_reclaim_input(dlc: TicketedDLC, outcome: str, market_maker_secret: bytes) -> SpendInput:
    """The outcome output, reclaimed by the market maker ``2*delta`` blocks after the outcome transaction.

    Raises:
        UnknownOutcome: The contract has no such outcome.
        SigningError: Not the market maker's secret key.
    """
    _check_key(market_maker_secret, dlc.parameters.market_maker, "market_maker_secret")
    taproot = dlc.outcome_taproot(dlc.winners(outcome))
    return _leaf(
        dlc.outcome_outpoint(outcome),
        dlc.outcome_output(outcome),
        taproot,
        len(taproot.scripts) - 1,
        market_maker_secret,
        (),
        2 * dlc.parameters.relative_locktime_block_delta,
    )


def funding_close_input(dlc: TicketedDLC, secret_keys: Iterable[bytes]) -> SpendInput:
    """The funding output, closed by key path with the secret keys of the market maker and every player.

    Raises:
        SigningError: A secret key is missing.
    """
    context = dlc.funding_key_context
    return _close(dlc.funding_outpoint, dlc.funding_output(), context, None, secret_keys)


def outcome_close_input(dlc: TicketedDLC, outcome: str, secret_keys: Iterable[bytes]) -> SpendInput:
    """The outcome output, closed by key path with the secret keys of the market maker and its winners.

    Raises:
        UnknownOutcome: The contract has no such outcome.
        SigningError: A secret key is missing.
    """
    winners = dlc.winners(outcome)
    return _close(
        dlc.outcome_outpoint(outcome),
        dlc.outcome_output(outcome),
        dlc.key_context(winners),
        dlc.outcome_taproot(winners),
        secret_keys,
    )


def split_close_input(
    dlc: TicketedDLC, outcome: str, player: int, secret_keys: Iterable[bytes]
) -> SpendInput:
    """A split output, closed by key path with the secret keys of the market maker and the winner.

    Raises:
        UnknownOutcome: The contract has no such win condition.
        SigningError: A secret key is missing.
    """
    return _close(
        dlc.split_outpoint(outcome, player),
        dlc.split_output(outcome, player),
        dlc.split_key_context(player),
        dlc.split_taproot(player),
        secret_keys,
    )


def spend(inputs: Sequence[SpendInput], destination: bytes, fee_rate_sat_vb: float) -> bytes:
    """Spend contract outputs, one or many, to one destination.

    Args:
        inputs: What to spend.
        destination: scriptPubKey of the only output.
        fee_rate_sat_vb: Fee rate in sat/vB.

    Returns:
        The signed transaction.

    Raises:
        InvalidTransaction: No inputs, one occurs twice, the destination is unspendable, the output would be
            dust, the fee exceeds `MAX_FEE_PERCENT` of the inputs, or the transaction is too heavy to relay.
        InvalidParameters: The fee rate is out of range.
    """
    if not inputs:
        raise InvalidTransaction("nothing to spend")
    if len({item.outpoint for item in inputs}) != len(inputs):
        raise InvalidTransaction("an output is spent twice")
    if not destination or destination[0] == OP_RETURN:
        raise InvalidTransaction("money sent there is lost", field="destination")
    weight = OVERHEAD_WEIGHT + count_weight(len(inputs), 1) + output_weight(destination)
    weight += sum(INPUT_WEIGHT + witness_weight(*item.witness_lengths) for item in inputs)
    if weight > MAX_STANDARD_WEIGHT:
        raise InvalidTransaction("too heavy to be relayed: spend fewer outputs at once")
    total_sats = sum(item.output.value_sats for item in inputs)
    fee = fee_sats(weight, fee_rate_sat_vb)
    if fee * 100 > total_sats * MAX_FEE_PERCENT:
        raise InvalidTransaction(
            f"the fee of {fee} sats is more than {MAX_FEE_PERCENT}% of {total_sats} sats",
            field="fee_rate_sat_vb",
        )
    if total_sats - fee < dust_limit_sats(destination):
        raise InvalidTransaction(f"{total_sats - fee} sats are dust", field="destination")
    transaction = Transaction(
        tuple(Input(item.outpoint, item.sequence) for item in inputs),
        (Output(destination, total_sats - fee),),
    )
    cache = SighashCache(transaction, [item.output for item in inputs])
    for index, item in enumerate(inputs):
        transaction = transaction.with_witness(index, item._sign(cache, index))
    return transaction.serialize()


def _winner(dlc: TicketedDLC, outcome: str, player: int) -> int:
    dlc.position(outcome, player)
    return player


def _split_leaf(
    dlc: TicketedDLC,
    outcome: str,
    player: int,
    leaf: int,
    secret: bytes,
    preimage: tuple[bytes, ...],
    sequence: int,
) -> SpendInput:
    return _leaf(
        dlc.split_outpoint(outcome, player),
        dlc.split_output(outcome, player),
        dlc.split_taproot(player),
        leaf,
        secret,
        preimage,
        sequence,
    )


def _leaf(
    outpoint: OutPoint,
    output: Output,
    taproot: TaprootOutput,
    leaf: int,
    secret: bytes,
    preimage: tuple[bytes, ...],
    sequence: int,
) -> SpendInput:
    rest = (*preimage, taproot.scripts[leaf], taproot.control_block(leaf))

    def sign(cache: SighashCache, index: int) -> tuple[bytes, ...]:
        return schnorr.sign(secret, cache.script_path(index, taproot.tree.leaf_hashes[leaf])), *rest

    return SpendInput(outpoint, output, sequence, (64, *map(len, rest)), sign)


def _close(
    outpoint: OutPoint,
    output: Output,
    context: KeyAggContext,
    taproot: TaprootOutput | None,
    secret_keys: Iterable[bytes],
) -> SpendInput:
    if taproot is not None:
        context = context.tweaked(taproot.tweak, xonly=True)
    secret = aggregate_secret(context, {public_key(key): key for key in secret_keys})

    def sign(cache: SighashCache, index: int) -> tuple[bytes, ...]:
        return (schnorr.sign(secret, cache.key_path(index)),)

    return SpendInput(outpoint, output, SEQUENCE_RBF, (64,), sign)


def _check_preimage(preimage: bytes, expected: bytes, field: str) -> None:
    if len(preimage) != 32 or sha256(preimage) != expected:
        raise InvalidPreimage("does not hash to the contract's hash", field=field)


def _check_key(secret: bytes, expected: bytes, field: str) -> None:
    if public_key(secret) != expected:
        raise SigningError("belongs to another public key", field=field)
