"""The ticketed DLC: every transaction, script and sighash that follows from a contract's parameters.

Byte-compatible with the Rust crate `dlctix` 0.0.7. Built for tens of thousands of outcomes: outcomes with
the same winners share keys, scripts and the outcome transaction itself; what a sighash has in common with
others is hashed once; nothing keeps a Python object for each outcome. Iterate `TicketedDLC.signing_jobs`,
whole or in ranges, to stream over everything there is to sign.
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from itertools import chain

from coordinator.contract import adaptor, schnorr
from coordinator.contract.errors import (
    InvalidParameters,
    InvalidScalar,
    InvalidSignature,
    UnknownOutcome,
)
from coordinator.contract.musig2 import KeyAggContext, key_agg, key_sort
from coordinator.contract.parameters import ContractParameters
from coordinator.contract.payouts import EXPIRY_INDEX, outcome_index, outcome_key, parse_key, win_key
from coordinator.contract.script import p2tr_script, reclaim_leaf, sellback_leaf, split_leaf, win_leaf
from coordinator.contract.secp import hash256, mul_base, parse_secret, sha256
from coordinator.contract.sizes import (
    INPUT_WEIGHT,
    OVERHEAD_WEIGHT,
    P2TR_KEY_INPUT_WEIGHT,
    count_weight,
    dust_limit_sats,
    output_weight,
    witness_weight,
)
from coordinator.contract.taproot import TaprootOutput, taproot_output
from coordinator.contract.tx import (
    Input,
    Transaction,
    outpoint_bytes,
    output_bytes,
    sighash_state,
    with_size,
)
from coordinator.contract.utxo import SEQUENCE_FINAL_NO_RBF, OutPoint, Output

Winners = tuple[int, ...]
"""Player indices, ascending."""

_P2TR = p2tr_script(bytes(32))
_P2TR_DUST_SATS = dust_limit_sats(_P2TR)
_SPLIT_SCRIPT_BYTES = len(split_leaf(bytes(32), bytes(32)))
_RECLAIM_WEIGHT = (1 << 32) - 1
_CHUNK_ROWS = 1024


@dataclass(frozen=True, slots=True)
class SigningJob:
    """One signature to make.

    Attributes:
        key: ``att3`` or ``exp`` for an outcome transaction, ``att3:p1`` for a split transaction's leaf.
        message: Sighash, 32 bytes.
        adaptor_point: Locking point where an adaptor signature is wanted, else None.
        winners: The group is the market maker and these players; None stands for all players.
    """

    key: str
    message: bytes
    adaptor_point: bytes | None
    winners: Winners | None


@dataclass(frozen=True, slots=True)
class ContractSignatures:
    """Every aggregated signature of a contract.

    Attributes:
        outcome: By outcome: 65-byte adaptor signatures; for ``exp`` a 64-byte signature.
        split: By win condition: 64-byte signatures.
    """

    outcome: dict[str, bytes] = field(default_factory=dict)
    split: dict[str, bytes] = field(default_factory=dict)

    def get(self, key: str) -> bytes | None:
        """By outcome or win condition key."""
        return (self.split if ":" in key else self.outcome).get(key)


def funding_script_pubkey(parameters: ContractParameters) -> bytes:
    """Script of the funding output: the aggregate key of everybody, untweaked."""
    return group_script([parameters.market_maker, *(player.pubkey for player in parameters.players)])


def group_script(pubkeys: Sequence[bytes]) -> bytes:
    """Script of an output that a group spends together: its aggregate key, untweaked."""
    return p2tr_script(key_agg(key_sort(pubkeys)).xonly)


def funding_output(parameters: ContractParameters) -> Output:
    """The output which the funding transaction must have."""
    return Output(funding_script_pubkey(parameters), parameters.funding_value)


@dataclass(frozen=True, slots=True)
class _Group:
    """What the outcomes with one set of winners share, as bytes.

    Attributes:
        key: Aggregate key of market maker and winners, 33 bytes.
        script: The outcome output's scriptPubKey.
        leaf_hashes: Of the winners' split leaves, concatenated.
        txid: The outcome transaction's, in internal order.
        sighash: The outcome transaction's.
        split_prefix: The split transactions' common signature message up to the hash of the outputs.
    """

    key: bytes
    script: bytes
    leaf_hashes: bytes
    txid: bytes
    sighash: bytes
    split_prefix: bytes


class TicketedDLC:
    """A contract on its funding outpoint.

    Args:
        parameters: The parameters; validated.
        funding_outpoint: (txid in hex, output index) of the funding output.

    Raises:
        InvalidParameters: A rule is broken, an output would be dust, or the outpoint is malformed.
        InvalidPoint: A key or locking point is not a point.
    """

    def __init__(self, parameters: ContractParameters, funding_outpoint: tuple[str, int]) -> None:
        parameters.validate()
        self.parameters = parameters
        self.funding_outpoint = OutPoint(*funding_outpoint)
        self._delta = parameters.relative_locktime_block_delta
        self._everybody: Winners = tuple(range(len(parameters.players)))
        self._groups: dict[Winners, _Group] = {}
        self._expiry_group: _Group | None = None
        self._amounts: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._split_taproots: dict[int, TaprootOutput] = {}

        self.funding_key_context = self.key_context(None)
        self.funding_script_pubkey = p2tr_script(self.funding_key_context.xonly)
        fee_sats = self._fee_sats(OVERHEAD_WEIGHT + P2TR_KEY_INPUT_WEIGHT + output_weight(_P2TR))
        self.outcome_value = parameters.funding_value - fee_sats
        """Satoshis of every outcome transaction's output."""
        if self.outcome_value <= _P2TR_DUST_SATS:
            raise InvalidParameters("does not pay for an outcome transaction", field="funding_value")
        for row in range(len(parameters.payouts)):
            self._split_amounts(parameters.payouts.weights_at(row))

        version, no_lock_time = (2).to_bytes(4, "little"), bytes(4)
        funding = outpoint_bytes(self.funding_outpoint)
        self._outcome_start = version + b"\x01" + funding + b"\x00"
        self._outcome_start += SEQUENCE_FINAL_NO_RBF.to_bytes(4, "little") + b"\x01"
        self._outcome_input_hashes = (
            sha256(funding)
            + sha256(parameters.funding_value.to_bytes(8, "little"))
            + sha256(with_size(self.funding_script_pubkey))
            + sha256(SEQUENCE_FINAL_NO_RBF.to_bytes(4, "little"))
        )
        self._split_message_start = b"\x00" + version + no_lock_time
        self._outcome_value_hash = sha256(self.outcome_value.to_bytes(8, "little"))
        self._delta_hash = sha256(self._delta.to_bytes(4, "little"))

    # Outcomes

    def outcomes(self) -> Iterator[str]:
        """Keys of all outcomes in order, the expiry last."""
        return iter(self.parameters.payouts)

    @property
    def outcome_count(self) -> int:
        """Number of outcomes, the expiry included."""
        return len(self.parameters.payouts)

    @property
    def job_count(self) -> int:
        """Number of signatures of the contract."""
        return self.outcome_count + self.parameters.payouts.win_condition_count

    def winners(self, outcome: str) -> Winners:
        """The players an outcome pays, ascending.

        Raises:
            UnknownOutcome: The contract has no such outcome.
        """
        return self.parameters.payouts.players_at(self.parameters.payouts.row_of(outcome))

    def rank(self, outcome: str) -> Winners:
        """The players an outcome pays, greatest weight first (equal ones ascending).

        Raises:
            UnknownOutcome: The contract has no such outcome.
        """
        row = self.parameters.payouts.row_of(outcome)
        weights = dict(zip(self.winners(outcome), self.parameters.payouts.weights_at(row), strict=True))
        return tuple(sorted(weights, key=lambda player: (-weights[player], player)))

    def payouts(self, outcome: str) -> dict[int, int]:
        """Satoshis of each winner's split output.

        Raises:
            UnknownOutcome: The contract has no such outcome.
        """
        row = self.parameters.payouts.row_of(outcome)
        amounts = self._split_amounts(self.parameters.payouts.weights_at(row))
        return dict(zip(self.parameters.payouts.players_at(row), amounts, strict=True))

    def outcome_for_attestation(self, secret: bytes) -> str | None:
        """The outcome which an attestation secret belongs to; None if the contract has none such.

        Raises:
            InvalidScalar: Not a secret scalar.
        """
        index = self.parameters.event.points.find(mul_base(parse_secret(secret)))
        if index is None or outcome_key(index) not in self.parameters.payouts:
            return None
        return outcome_key(index)

    def is_attestation(self, outcome: str, secret: bytes) -> bool:
        """Whether a secret attests to this outcome."""
        point = self.adaptor_point(outcome)
        try:
            return point is not None and mul_base(parse_secret(secret)) == point
        except InvalidScalar:
            return False

    def adaptor_point(self, outcome: str) -> bytes | None:
        """The locking point of an outcome; None for the expiry.

        Raises:
            UnknownOutcome: The contract has no such outcome.
        """
        self.parameters.payouts.row_of(outcome)
        index = outcome_index(outcome)
        return None if index == EXPIRY_INDEX else self.parameters.event.points[index]

    # Groups

    def winner_sets(self) -> Iterator[Winners]:
        """Each group that signs split transactions, once, in order of first appearance.

        Without the group of all players, which is the full group (None elsewhere).
        """
        payouts = self.parameters.payouts
        seen = {self._everybody}
        for row in range(len(payouts)):
            winners = payouts.players_at(row)
            if winners not in seen:
                seen.add(winners)
                yield winners

    def key_context(self, winners: Winners | None) -> KeyAggContext:
        """Untweaked aggregate of the market maker's and the winners' keys; None stands for all players."""
        players = self.parameters.players
        keys = [players[i].pubkey for i in (self._everybody if winners is None else winners)]
        return key_agg(key_sort([self.parameters.market_maker, *keys]))

    def aggregate_key(self, winners: Winners | None) -> bytes:
        """The aggregate key of a group, 33 bytes; None stands for all players."""
        if winners is None:
            return self.funding_key_context.point
        return self._group(winners).key

    # Outputs

    def funding_output(self) -> Output:
        """The funding output."""
        return Output(self.funding_script_pubkey, self.parameters.funding_value)

    def outcome_taproot(self, winners: Winners) -> TaprootOutput:
        """The outcome output for a set of winners: their split leaves in order, then the reclaim leaf."""
        return self._outcome_taproot(winners, self.aggregate_key(winners)[1:])

    def _outcome_taproot(self, winners: Winners, key_x: bytes) -> TaprootOutput:
        leaves = [(1, split_leaf(self.parameters.players[i].ticket_hash, key_x)) for i in winners]
        reclaim = reclaim_leaf(self.parameters.market_maker[1:], self._delta)
        return taproot_output(key_x, [*leaves, (_RECLAIM_WEIGHT, reclaim)])

    def split_key_context(self, player: int) -> KeyAggContext:
        """Untweaked aggregate of the market maker's and one player's key."""
        return self.key_context((player,))

    def split_taproot(self, player: int) -> TaprootOutput:
        """A player's split output, the same under every outcome: sellback, win and reclaim leaf."""
        output = self._split_taproots.get(player)
        if output is None:
            output = self._split_taproots[player] = self._make_split_taproot(player)
        return output

    def _make_split_taproot(self, player: int) -> TaprootOutput:
        market_maker, winner = self.parameters.market_maker[1:], self.parameters.players[player]
        return taproot_output(
            self.split_key_context(player).xonly,
            [
                (2, sellback_leaf(winner.payout_hash, market_maker)),
                (1, win_leaf(winner.ticket_hash, winner.pubkey[1:], self._delta)),
                (1, reclaim_leaf(market_maker, self._delta)),
            ],
        )

    # Transactions

    def outcome_tx(self, outcome: str) -> Transaction:
        """The outcome transaction, unsigned.

        Raises:
            UnknownOutcome: The contract has no such outcome.
        """
        return Transaction(
            (Input(self.funding_outpoint, SEQUENCE_FINAL_NO_RBF),),
            (self.outcome_output(outcome),),
            self._lock_time(outcome_index(outcome)),
        )

    def outcome_output(self, outcome: str) -> Output:
        """The outcome transaction's output.

        Raises:
            UnknownOutcome: The contract has no such outcome.
        """
        return Output(self._group(self.winners(outcome)).script, self.outcome_value)

    def outcome_outpoint(self, outcome: str) -> OutPoint:
        """The outcome transaction's output, as an outpoint."""
        return OutPoint(self._outcome_group(outcome).txid[::-1].hex(), 0)

    def outcome_sighash(self, outcome: str) -> bytes:
        """What the full group signs for an outcome transaction (BIP341 key path)."""
        return self._outcome_group(outcome).sighash

    def split_tx(self, outcome: str) -> Transaction:
        """The split transaction, unsigned.

        Raises:
            UnknownOutcome: The contract has no such outcome.
        """
        outputs = (
            Output(self.split_taproot(player).script_pubkey, amount)
            for player, amount in self.payouts(outcome).items()
        )
        return Transaction((Input(self.outcome_outpoint(outcome), self._delta),), tuple(outputs))

    def split_outpoint(self, outcome: str, player: int) -> OutPoint:
        """A winner's split output, as an outpoint.

        Raises:
            UnknownOutcome: The player does not win under this outcome.
        """
        return OutPoint(self.split_tx(outcome).txid, self.position(outcome, player))

    def split_output(self, outcome: str, player: int) -> Output:
        """A winner's split output.

        Raises:
            UnknownOutcome: The player does not win under this outcome.
        """
        self.position(outcome, player)
        return Output(self.split_taproot(player).script_pubkey, self.payouts(outcome)[player])

    def split_sighash(self, outcome: str, player: int) -> bytes:
        """What an outcome's group signs for a winner's leaf (BIP342 script path).

        Raises:
            UnknownOutcome: The player does not win under this outcome.
        """
        position = self.position(outcome, player)
        row = self.parameters.payouts.row_of(outcome)
        return self._split_sighashes(row, self._outcome_group(outcome))[position]

    def position(self, outcome: str, player: int) -> int:
        """A winner's place among an outcome's winners in player order: output of the split, leaf of the tree.

        Raises:
            UnknownOutcome: The player does not win under this outcome.
        """
        winners = self.winners(outcome)
        if player not in winners:
            raise UnknownOutcome(f"player {player} wins nothing under {outcome}", field="player")
        return winners.index(player)

    # Signing

    def signing_jobs(self, start: int = 0, stop: int | None = None) -> Iterator[SigningJob]:
        """Everything to sign: for each outcome its transaction, then its win conditions in player order.

        Args:
            start, stop: Range of outcomes by their place in `outcomes`, to spread work.
        """
        payouts, points = self.parameters.payouts, self.parameters.event.points
        for row in range(*slice(start, stop).indices(len(payouts))):
            index, winners = payouts.index_at(row), payouts.players_at(row)
            expires = index == EXPIRY_INDEX
            group = self._expiry(winners) if expires else self._group(winners)
            outcome = outcome_key(index)
            yield SigningJob(outcome, group.sighash, None if expires else points[index], None)
            signers = None if winners == self._everybody else winners
            for player, sighash in zip(winners, self._split_sighashes(row, group), strict=True):
                yield SigningJob(win_key(outcome, player), sighash, None, signers)

    def signing_job(self, key: str) -> SigningJob:
        """One job by its key.

        Raises:
            UnknownOutcome: The contract has no such outcome or win condition.
        """
        outcome, player = parse_key(key)
        if player is None:
            return SigningJob(key, self.outcome_sighash(outcome), self.adaptor_point(outcome), None)
        winners = self.winners(outcome)
        signers = None if winners == self._everybody else winners
        return SigningJob(key, self.split_sighash(outcome, player), None, signers)

    def verify_signature(self, key: str, signature: bytes) -> None:
        """Check one aggregated signature, adaptor signatures as such.

        Raises:
            InvalidSignature: It does not verify.
            UnknownOutcome: The contract has no such outcome or win condition.
        """
        job = self.signing_job(key)
        key_x = self.aggregate_key(job.winners)[1:]
        if job.adaptor_point is None:
            valid = schnorr.verify(key_x, job.message, signature)
        else:
            valid = adaptor.verify_adaptor(key_x, job.message, job.adaptor_point, signature)
        if not valid:
            raise InvalidSignature("does not verify", key=key)

    def verify_signatures(self, signatures: ContractSignatures, executor: Executor | None = None) -> None:
        """Check that every signature of the contract is there and valid, and no other.

        Args:
            signatures: All of them.
            executor: A process pool to spread the work over; without one it is done here.

        Raises:
            InvalidSignature: Names the first key, in order, whose signature is missing, invalid or too much.
        """
        if executor is None:
            for first, rows in self._verification_chunks(signatures):
                self._raise_for(first, verify_rows(*rows))
        else:
            self._verify_with(executor, signatures)
        self._refuse_strangers(signatures)

    def _verify_with(self, executor: Executor, signatures: ContractSignatures) -> None:
        pending: list[tuple[int, Future[int]]] = []
        missing: InvalidSignature | None = None
        try:
            try:
                for first, rows in self._verification_chunks(signatures):
                    pending.append((first, executor.submit(verify_rows, *rows)))
            except InvalidSignature as error:
                missing = error  # an earlier one may be invalid: that is the one to name
            for first, future in pending:
                self._raise_for(first, future.result())
        finally:
            for _, future in pending:
                future.cancel()
        if missing is not None:
            raise missing

    def _verification_chunks(
        self, signatures: ContractSignatures
    ) -> Iterator[tuple[int, tuple[bytes, bytes, bytes]]]:
        """(number of the first job, arguments of `verify_rows`); stops short before a missing signature."""
        funding_key = self.funding_key_context.xonly
        adaptors, plain, kinds = bytearray(), bytearray(), bytearray()
        first = 0
        missing: InvalidSignature | None = None
        for count, job in enumerate(self.signing_jobs(), 1):
            signature = signatures.get(job.key)
            length = 64 if job.adaptor_point is None else 65
            if signature is None or len(signature) != length:
                problem = "is missing" if signature is None else f"must have {length} bytes"
                missing = InvalidSignature(problem, key=job.key)
                break
            if job.adaptor_point is None:
                key = funding_key if job.winners is None else self._group(job.winners).key[1:]
                plain += key + job.message + signature
                kinds.append(0)
            else:
                adaptors += funding_key + job.message + job.adaptor_point + signature
                kinds.append(1)
            if len(kinds) == _CHUNK_ROWS:
                yield first, (bytes(kinds), bytes(adaptors), bytes(plain))
                first = count
                adaptors, plain, kinds = bytearray(), bytearray(), bytearray()
        if kinds:
            yield first, (bytes(kinds), bytes(adaptors), bytes(plain))
        if missing is not None:
            raise missing

    def _raise_for(self, first: int, bad: int) -> None:
        if bad >= 0:
            for number, job in enumerate(self.signing_jobs()):
                if number == first + bad:
                    raise InvalidSignature("does not verify", key=job.key)

    def _refuse_strangers(self, signatures: ContractSignatures) -> None:
        # Every key of the contract is there, so equal counts mean that there is no other.
        payouts = self.parameters.payouts
        if len(signatures.outcome) == len(payouts) and len(signatures.split) == payouts.win_condition_count:
            return
        known = {job.key for job in self.signing_jobs()}
        for key in chain(signatures.outcome, signatures.split):
            if key not in known:
                raise InvalidSignature("the contract has no such outcome or win condition", key=key)
        for key in signatures.outcome:
            if ":" in key:
                raise InvalidSignature("is among the outcomes' signatures", key=key)
        for key in signatures.split:
            if ":" not in key:
                raise InvalidSignature("is among the split signatures", key=key)

    # Inner workings

    def _fee_sats(self, weight: int) -> int:
        return -(-self.parameters.fee_rate * weight // 1000)

    def _lock_time(self, index: int) -> int:
        return (self.parameters.event.expiry or 0) if index == EXPIRY_INDEX else 0

    def _split_amounts(self, weights: tuple[int, ...]) -> tuple[int, ...]:
        """Satoshis of the split outputs; few distinct tuples of weights occur, so they are kept."""
        amounts = self._amounts.get(weights)
        if amounts is None:
            amounts = self._amounts[weights] = self._compute_amounts(weights)
        return amounts

    def _compute_amounts(self, weights: tuple[int, ...]) -> tuple[int, ...]:
        count = len(weights)
        # Deepest leaf: equal weights make a Huffman tree of two adjacent levels whichever way ties go, and
        # the reclaim leaf, heavier than all of them together, goes on top.
        depth = (count - 1).bit_length() + 1
        witness = witness_weight(64, 32, _SPLIT_SCRIPT_BYTES, 33 + 32 * depth)
        weight = OVERHEAD_WEIGHT + INPUT_WEIGHT + witness + count * output_weight(_P2TR)
        fee_sats = self._fee_sats(weight + count_weight(1, count)) // count
        total = sum(weights)
        amounts = tuple(self.outcome_value * weight // total - fee_sats for weight in weights)
        if min(amounts) <= _P2TR_DUST_SATS:
            raise InvalidParameters(
                f"leaves a winner {min(amounts)} sats, no more than dust", field="funding_value"
            )
        return amounts

    def _group(self, winners: Winners) -> _Group:
        group = self._groups.get(winners)
        if group is None:
            group = self._groups[winners] = self._make_group(winners, 0)
        return group

    def _outcome_group(self, outcome: str) -> _Group:
        winners = self.winners(outcome)
        return self._expiry(winners) if outcome_index(outcome) == EXPIRY_INDEX else self._group(winners)

    def _expiry(self, winners: Winners) -> _Group:
        """The expiry's group: its outcome transaction has a lock time, so txid and sighashes differ."""
        if self._expiry_group is None:
            self._expiry_group = self._make_group(winners, self._lock_time(EXPIRY_INDEX))
        return self._expiry_group

    def _make_group(self, winners: Winners, lock_time: int) -> _Group:
        key = self.key_context(winners).point
        output = self._outcome_taproot(winners, key[1:])
        script = output.script_pubkey
        outcome_output = output_bytes(self.outcome_value, script)
        lock = lock_time.to_bytes(4, "little")
        txid = hash256(self._outcome_start + outcome_output + lock)
        state = sighash_state()
        state.update(
            b"\x00\x02\x00\x00\x00" + lock + self._outcome_input_hashes + sha256(outcome_output) + bytes(5)
        )
        split_prefix = (
            self._split_message_start
            + sha256(txid + bytes(4))
            + self._outcome_value_hash
            + sha256(with_size(script))
            + self._delta_hash
        )
        leaf_hashes = b"".join(output.tree.leaf_hashes[:-1])
        return _Group(key, script, leaf_hashes, txid, state.digest(), split_prefix)

    def _split_sighashes(self, row: int, group: _Group) -> list[bytes]:
        payouts = self.parameters.payouts
        amounts = self._split_amounts(payouts.weights_at(row))
        outputs = b"".join(
            output_bytes(amount, self.split_taproot(player).script_pubkey)
            for player, amount in zip(payouts.players_at(row), amounts, strict=True)
        )
        # spend_type 2 (tapscript, no annex), input 0
        state = sighash_state()
        state.update(group.split_prefix + hashlib.sha256(outputs).digest() + b"\x02\x00\x00\x00\x00")
        sighashes = []
        for at in range(0, len(group.leaf_hashes), 32):
            leaf = state.copy()
            leaf.update(group.leaf_hashes[at : at + 32] + b"\x00\xff\xff\xff\xff")
            sighashes.append(leaf.digest())
        return sighashes


@dataclass(frozen=True, slots=True)
class SigningJobs:
    """All jobs of a contract in order, made anew whenever they are iterated: an object for each would be
    tens of thousands, to keep and to send to another process.
    """

    dlc: TicketedDLC

    def __iter__(self) -> Iterator[SigningJob]:
        return self.dlc.signing_jobs()

    def __len__(self) -> int:
        return self.dlc.job_count

    def __contains__(self, job: object) -> bool:
        return any(own == job for own in self)


def verify_rows(kinds: bytes, adaptors: bytes, plain: bytes) -> int:
    """Check packed signatures; a process pool runs this.

    Args:
        kinds: For each signature 1 where it is an adaptor signature, else 0.
        adaptors: Of each adaptor signature: x-only key, message, adaptor point, pre-signature (162 bytes).
        plain: Of each other: x-only key, message, signature (128 bytes).

    Returns:
        Place of the first invalid one, or -1.
    """
    at_adaptor = at_plain = 0
    for place, kind in enumerate(kinds):
        if kind:
            row = adaptors[at_adaptor : at_adaptor + 162]
            at_adaptor += 162
            valid = adaptor.verify_adaptor(row[:32], row[32:64], row[64:97], row[97:])
        else:
            row = plain[at_plain : at_plain + 128]
            at_plain += 128
            valid = schnorr.verify(row[:32], row[32:64], row[64:])
        if not valid:
            return place
    return -1
