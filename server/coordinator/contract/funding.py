# mypy: disable-error-code="no-untyped-call"
"""From tickets to the contract: the escrow transaction and the funding transaction.

The escrow transaction is an ordinary payment of the coordinator's wallet; since it only spends taproot coins
its txid is final before it is signed. The funding transaction spends every escrow by its 2-of-2 branch into
the contract's funding output. Both follow from data alone, with inputs and outputs in the order of ticket
ids, so that every party rebuilds the same bytes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

from embit.ec import PublicKey
from embit.psbt import PSBT
from embit.script import Script

from coordinator.contract.errors import InvalidParameters, InvalidSignature, InvalidTransaction, SigningError
from coordinator.contract.escrow import COOPERATIVE_INPUT_WEIGHT, Escrow, verify_signature
from coordinator.contract.keypath import bip86_script_pubkey, sign_bip86_input
from coordinator.contract.psbt import psbt_of
from coordinator.contract.secp import public_key
from coordinator.contract.sizes import (
    OVERHEAD_WEIGHT,
    P2TR_KEY_INPUT_WEIGHT,
    count_weight,
    dust_limit_sats,
    fee_sats,
    is_p2tr,
    output_weight,
)
from coordinator.contract.tx import SIGHASH_ALL, Input, SighashCache, Transaction
from coordinator.contract.utxo import (
    SEQUENCE_FINAL_NO_RBF,
    Coin,
    OutPoint,
    Output,
)

MAX_FUNDING_FEE_PERCENT = 25
"""A fee above this share of the funding value is refused: the competition is too small for the fee rate."""

_P2TR_OUTPUT_WEIGHT = output_weight(bytes(34))


class Underfunded(InvalidTransaction):
    """Escrows and coordinator coins do not cover the funding output and the fee.

    Attributes:
        missing_sats: What is missing, before the fee of further inputs.
    """

    def __init__(self, missing_sats: int) -> None:
        super().__init__(f"{missing_sats} sats are missing", field="coins")
        self.missing_sats = missing_sats


@dataclass(frozen=True, slots=True)
class TicketEscrow:
    """An escrow to be paid. `ticket_id` orders and names it; as text, ids of one form (UUIDv7)."""

    ticket_id: str
    escrow: Escrow
    value_sats: int


@dataclass(frozen=True, slots=True)
class EscrowCoin:
    """A paid escrow."""

    ticket_id: str
    escrow: Escrow
    outpoint: OutPoint
    value_sats: int

    @property
    def output(self) -> Output:
        return Output(self.escrow.script_pubkey, self.value_sats)


def escrow_batch_outputs(escrows: Iterable[TicketEscrow]) -> tuple[Output, ...]:
    """The outputs that the escrow transaction starts with, in the order of ticket ids; change comes after.

    Raises:
        InvalidParameters: No escrows, a ticket twice, or an escrow of dust.
    """
    return tuple(Output(e.escrow.script_pubkey, e.value_sats) for e in _ordered_tickets(escrows))


@dataclass(frozen=True, slots=True)
class EscrowBatch:
    """An escrow transaction, checked against the tickets it must pay.

    A player builds it before signing the release, the coordinator before asking for that signature.
    """

    txid: str
    coins: tuple[EscrowCoin, ...]

    @classmethod
    def of(cls, transaction: bytes, escrows: Iterable[TicketEscrow]) -> Self:
        """Find every ticket's escrow: escrow i (in the order of ticket ids) is output i.

        A player that only knows its own ticket uses `EscrowBatch.find`.

        Raises:
            InvalidTransaction: Not a transaction, one with a scriptSig, or an output is not as it must be.
            InvalidParameters: No escrows, a ticket twice, or an escrow of dust.
        """
        parsed = _parse_batch(transaction)
        ordered = _ordered_tickets(escrows)
        coins = tuple(_escrow_at(parsed, vout, ticket) for vout, ticket in enumerate(ordered))
        return cls(parsed.txid, coins)

    @classmethod
    def find(cls, transaction: bytes, vout: int, ticket: TicketEscrow) -> EscrowCoin:
        """One ticket's escrow at the output where it is said to be.

        Raises:
            InvalidTransaction: Not a transaction, or that output does not pay this escrow this value.
        """
        return _escrow_at(_parse_batch(transaction), vout, ticket)

    def coin(self, ticket_id: str) -> EscrowCoin:
        """The escrow of a ticket.

        Raises:
            InvalidParameters: The transaction pays no such ticket.
        """
        for coin in self.coins:
            if coin.ticket_id == ticket_id:
                return coin
        raise InvalidParameters("no such ticket in the escrow transaction", field="ticket_id")


def funding_base_weight(escrows: int) -> int:
    """Weight of a funding transaction with this many escrows, before coordinator coins and change.

    With `funding_value - sum of escrows` as target it is what coin selection needs for the top-up.
    """
    return OVERHEAD_WEIGHT + escrows * COOPERATIVE_INPUT_WEIGHT + _P2TR_OUTPUT_WEIGHT


@dataclass(frozen=True)
class FundingTransaction:
    """Spends all escrows, and coordinator coins where these are needed, into the contract's funding output.

    Inputs: escrows in the order of ticket ids, then coordinator coins in the order of their outpoints; their
    sequence is 0xfffffffe, since nothing can replace it once the players have signed. Outputs: 0 funding,
    1 coordinator's change, present whenever it is above dust. Make it with `build`.
    """

    escrows: tuple[EscrowCoin, ...]
    coins: tuple[Coin, ...]
    funding_output: Output
    change_output: Output | None
    fee_sats: int
    txid: str
    _transaction: Transaction = field(repr=False, compare=False)

    @classmethod
    def build(
        cls,
        escrows: Iterable[EscrowCoin],
        coins: Iterable[Coin],
        *,
        funding_script: bytes,
        funding_value_sats: int,
        change_script: bytes,
        fee_rate_sat_vb: float,
    ) -> Self:
        """Build it from what it spends and pays.

        Args:
            escrows: Every escrow of the competition, in any order.
            coins: BIP86 coins of the coordinator, all of which are spent, in any order; may be none.
            funding_script: P2TR script of the contract's funding output.
            change_script: Where the coordinator's change goes.
            fee_rate_sat_vb: Paid on the predicted weight; change that would be dust adds to the fee.

        Raises:
            Underfunded: Inputs do not cover funding value and fee.
            InvalidTransaction: Funding output is dust, or the fee above `MAX_FUNDING_FEE_PERCENT` of it.
            InvalidParameters: No escrows, a ticket or an outpoint twice, a coin or the funding script that is
                not taproot, or a fee rate out of range.
        """
        ordered = tuple(sorted(escrows, key=lambda e: e.ticket_id))
        topped_up = tuple(sorted(coins, key=lambda c: c.outpoint))
        _check_inputs(ordered, topped_up)
        if not is_p2tr(funding_script):
            raise InvalidParameters("must be a P2TR script", field="funding_script")
        funding_output = Output(funding_script, funding_value_sats)
        if funding_output.is_dust:
            raise InvalidTransaction("the funding output would be dust", field="funding_value_sats")

        inputs = len(ordered) + len(topped_up)
        weight = (
            funding_base_weight(len(ordered))
            + len(topped_up) * P2TR_KEY_INPUT_WEIGHT
            + count_weight(inputs, 1)
        )
        left = sum(e.value_sats for e in ordered) + sum(c.value_sats for c in topped_up) - funding_value_sats
        fee = fee_sats(weight, fee_rate_sat_vb)
        if left < fee:
            raise Underfunded(fee - left)
        change = left - fee_sats(weight + output_weight(change_script), fee_rate_sat_vb)
        change_output = Output(change_script, change) if change >= dust_limit_sats(change_script) else None
        fee = left - change if change_output else left
        if fee * 100 > funding_value_sats * MAX_FUNDING_FEE_PERCENT:
            raise InvalidTransaction(
                f"a fee of {fee} sats is more than {MAX_FUNDING_FEE_PERCENT}% of {funding_value_sats} sats",
                field="fee_rate_sat_vb",
            )
        transaction = Transaction(
            tuple(Input(outpoint, SEQUENCE_FINAL_NO_RBF) for outpoint in _outpoints(ordered, topped_up)),
            (funding_output, change_output) if change_output else (funding_output,),
        )
        return cls(ordered, topped_up, funding_output, change_output, fee, transaction.txid, transaction)

    @property
    def unsigned_transaction(self) -> bytes:
        """Serialised without witnesses."""
        return self._transaction.serialize()

    @property
    def funding_outpoint(self) -> OutPoint:
        """What the contract spends."""
        return OutPoint(self.txid, 0)

    @property
    def prevouts(self) -> tuple[Output, ...]:
        """The outputs that all inputs spend, in order."""
        return (*(e.output for e in self.escrows), *(c.output for c in self.coins))

    def index_of(self, ticket_id: str) -> int:
        """Index of the input that spends a ticket's escrow; also the player's index.

        Raises:
            InvalidParameters: No such ticket.
        """
        for index, escrow in enumerate(self.escrows):
            if escrow.ticket_id == ticket_id:
                return index
        raise InvalidParameters("no such ticket in the funding transaction", field="ticket_id")

    def sighash(self, index: int) -> bytes:
        """BIP143 signature hash (SIGHASH_ALL) of an escrow input.

        Raises:
            InvalidParameters: No escrow input has this index.
        """
        coin = self._escrow(index)
        return coin.escrow.sighash(self._transaction, index, coin.value_sats)

    def sign(self, index: int, secret: bytes) -> bytes:
        """Signature of either party over an escrow input: DER with low S, and the SIGHASH_ALL byte.

        Raises:
            InvalidParameters: No escrow input has this index.
            InvalidScalar: Not a secret key.
            SigningError: The key is not of this escrow.
        """
        return self._escrow(index).escrow.sign(secret, self.sighash(index))

    def verify_player_signature(self, index: int, signature: bytes) -> bool:
        """Whether it is the player's valid signature over its escrow input.

        Raises:
            InvalidParameters: No escrow input has this index.
        """
        return verify_signature(self._escrow(index).escrow.player_pubkey, signature, self.sighash(index))

    def psbt(self) -> PSBT:
        """PSBT version 0 (BIP174) with what signers need: spent outputs, witness scripts, sighash types."""
        psbt = psbt_of(self._transaction, self.prevouts)
        for scope, coin in zip(psbt.inputs, self.escrows, strict=False):
            scope.witness_script = Script(coin.escrow.witness_script)
            scope.sighash_type = SIGHASH_ALL
        return psbt

    def player_signature_from_psbt(self, index: int, psbt: str) -> bytes:
        """A player's signature out of the PSBT it signed (base64 or hex), verified.

        Raises:
            InvalidParameters: No escrow input has this index.
            InvalidTransaction: Not a PSBT, or one of another transaction.
            InvalidSignature: It holds no valid signature of this player.
        """
        coin = self._escrow(index)
        try:
            parsed = PSBT.from_string(psbt)
            same = parsed.tx.serialize() == self.unsigned_transaction
        except Exception:  # embit raises whatever its parsers run into
            same = False
        if not same:
            raise InvalidTransaction("not a PSBT of this funding transaction", field="psbt")
        signature = parsed.inputs[index].partial_sigs.get(PublicKey.parse(coin.escrow.player_pubkey), b"")
        if not self.verify_player_signature(index, signature):
            raise InvalidSignature("the PSBT holds no valid signature of this player", key=coin.ticket_id)
        return bytes(signature)

    def complete(self, player_signatures: Sequence[bytes], coordinator_secrets: Iterable[bytes]) -> bytes:
        """The transaction ready for broadcast. Check `verify_player_signature` as signatures come in.

        Args:
            player_signatures: One for each escrow, in input order.
            coordinator_secrets: Secret keys, in any order: of the coordinator's side of the escrows, and the
                untweaked BIP86 keys of its coins.

        Raises:
            InvalidSignature: A player's signature is missing or does not verify; names the ticket.
            SigningError: The secret of an escrow or of a coin is missing.
            InvalidScalar: Not a secret key.
        """
        if len(player_signatures) != len(self.escrows):
            raise InvalidSignature(f"{len(player_signatures)} signatures for {len(self.escrows)} escrows")
        secrets = {public_key(secret): secret for secret in coordinator_secrets}
        by_script = (
            {bip86_script_pubkey(key[1:]): secret for key, secret in secrets.items()} if self.coins else {}
        )
        signed = self._transaction
        for index, (coin, player_signature) in enumerate(zip(self.escrows, player_signatures, strict=True)):
            secret = secrets.get(coin.escrow.coordinator_pubkey)
            if secret is None:
                raise SigningError("the coordinator's key is missing", field=f"escrows[{index}]")
            if not self.verify_player_signature(index, player_signature):
                raise InvalidSignature("the player's signature is missing or not valid", key=coin.ticket_id)
            witness = coin.escrow.cooperative_witness(
                self.sighash(index), self.sign(index, secret), player_signature
            )
            signed = signed.with_witness(index, witness)
        sighashes = SighashCache(self._transaction, self.prevouts)
        for offset, spent in enumerate(self.coins):
            secret = by_script.get(spent.script_pubkey)
            if secret is None:
                raise SigningError("the coin's key is missing", field=f"coins[{offset}]")
            index = len(self.escrows) + offset
            signed = signed.with_witness(index, [sign_bip86_input(sighashes, index, secret)])
        return signed.serialize()

    def _escrow(self, index: int) -> EscrowCoin:
        if not 0 <= index < len(self.escrows):
            raise InvalidParameters(f"no escrow input {index}", field="index")
        return self.escrows[index]


def _ordered_tickets(escrows: Iterable[TicketEscrow]) -> list[TicketEscrow]:
    ordered = sorted(escrows, key=lambda e: e.ticket_id)
    _check_tickets([e.ticket_id for e in ordered])
    for ticket in ordered:
        if Output(ticket.escrow.script_pubkey, ticket.value_sats).is_dust:
            raise InvalidParameters(f"an escrow of {ticket.value_sats} sats is dust", field="value_sats")
    return ordered


def _check_tickets(ticket_ids: Sequence[str]) -> None:
    if not ticket_ids:
        raise InvalidParameters("there must be at least one escrow", field="escrows")
    if len(set(ticket_ids)) != len(ticket_ids):
        raise InvalidParameters("a ticket occurs twice", field="escrows")


def _outpoints(escrows: Sequence[EscrowCoin], coins: Sequence[Coin]) -> list[OutPoint]:
    return [*(e.outpoint for e in escrows), *(c.outpoint for c in coins)]


def _check_inputs(escrows: Sequence[EscrowCoin], coins: Sequence[Coin]) -> None:
    _check_tickets([e.ticket_id for e in escrows])
    outpoints = _outpoints(escrows, coins)
    if len(set(outpoints)) != len(outpoints):
        raise InvalidParameters("an output is spent twice", field="coins")
    for index, coin in enumerate(coins):
        if not is_p2tr(coin.script_pubkey):
            raise InvalidParameters("must be a taproot coin", field=f"coins[{index}]")


def _parse_batch(raw: bytes) -> Transaction:
    transaction = Transaction.parse(raw)
    # With a scriptSig the txid could change until it is mined, and the release would hang in the air.
    if any(txin.script_sig for txin in transaction.inputs):
        raise InvalidTransaction("the escrow transaction may only spend segwit outputs", field="transaction")
    return transaction


def _escrow_at(transaction: Transaction, vout: int, ticket: TicketEscrow) -> EscrowCoin:
    if not 0 <= vout < len(transaction.outputs):
        raise InvalidTransaction(f"has no output {vout}", field="transaction")
    if transaction.outputs[vout] != Output(ticket.escrow.script_pubkey, ticket.value_sats):
        raise InvalidTransaction(
            f"output {vout} does not pay {ticket.value_sats} sats to the escrow of ticket {ticket.ticket_id}",
            field="transaction",
        )
    return EscrowCoin(ticket.ticket_id, ticket.escrow, OutPoint(transaction.txid, vout), ticket.value_sats)
