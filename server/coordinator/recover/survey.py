"""What the chain has of a claim: which transactions are done, which are possible, and who was faster."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from coordinator.contract.dlc import TicketedDLC
from coordinator.contract.errors import ContractError
from coordinator.contract.observed import Outcome, outcome_of_spend, ranking_of_split
from coordinator.contract.taproot import TaprootOutput
from coordinator.contract.tx import Transaction
from coordinator.ports.chain import Chain, ChainError, ChainTip, Outspend
from coordinator.recover.claim import Claim
from coordinator.recover.errors import Exit, RecoverError, refused
from coordinator.recover.material import PublicContract

LOCKTIME_THRESHOLD = 500_000_000
"""Lock times below are block heights, others unix seconds (Bitcoin Core's `LOCKTIME_THRESHOLD`)."""


class Kind(Enum):
    """The three transactions of a claim."""

    OUTCOME = auto()
    SPLIT = auto()
    WIN = auto()


@dataclass(frozen=True, slots=True)
class Step:
    """Where one transaction stands.

    Attributes:
        kind: Which one.
        txid: In the chain or the mempool; None while it is in neither.
        height: Of its block; None while it is in none.
        from_height: First block that may have it, as far as blocks decide and are known.
        from_time: Unix seconds that the median time must exceed, where a time decides.
        before_height: From this block on the market maker may take the money instead.
        ready: The next block may have it.
    """

    kind: Kind
    txid: str | None = None
    height: int | None = None
    from_height: int | None = None
    from_time: int | None = None
    before_height: int | None = None
    ready: bool = False

    @property
    def confirmed(self) -> bool:
        return self.height is not None


@dataclass(frozen=True, slots=True)
class Survey:
    """All of it at one moment.

    Attributes:
        tip: The newest block.
        steps: Outcome, split and win, as far as they are reached: the last is the one to do or to wait for.
        claim: The claim as the chain has it (see `Claim.split_key`).
        taken: Who has the money instead, in words; None while it is the player's to take.
        diverted: The transaction of another outcome is there: the claim has to be made anew.
    """

    tip: ChainTip
    steps: tuple[Step, ...]
    claim: Claim
    taken: str | None = None
    diverted: bool = False

    @property
    def current(self) -> Step:
        return self.steps[-1]

    @property
    def finished(self) -> bool:
        return self.current.kind is Kind.WIN and self.current.confirmed


async def check_funding(chain: Chain, dlc: TicketedDLC) -> None:
    """Check that the funding output is there, in a block or on its way to one, with the contract's script and
    value.

    Raises:
        RecoverError: It is not: this contract never held money.
    """
    outpoint = dlc.funding_outpoint
    raw = await chain.transaction(outpoint.txid)
    if raw is None:
        raise refused(f"the chain does not know the funding transaction {outpoint.txid} (another network?)")
    outputs = _parse(raw).outputs
    if outpoint.vout >= len(outputs) or outputs[outpoint.vout] != dlc.funding_output():
        raise refused(f"the output {outpoint} is not the one that this contract expects")


async def outcome_on_chain(chain: Chain, contract: PublicContract) -> Outcome | None:
    """The outcome whose transaction spends the funding output; None while none does.

    Raises:
        RecoverError: Something else spends it: everybody handed over their keys.
    """
    spent = await chain.outspend(*_pair(contract.dlc))
    if spent is None:
        return None
    outcome = outcome_of_spend(contract.dlc, contract.signatures, await _transaction(chain, spent.txid))
    if outcome is None:
        raise RecoverError(
            Exit.TAKEN, f"the contract's money was moved by all parties together, in transaction {spent.txid}"
        )
    return outcome


async def survey(chain: Chain, claim: Claim) -> Survey:
    """Look at the chain, from the funding output on."""
    dlc = claim.dlc
    delta = dlc.parameters.relative_locktime_block_delta
    tip = await chain.tip()
    spent = await chain.outspend(*_pair(dlc))
    outcome = _outcome_step(dlc, claim.outcome, tip, spent)
    if spent is not None and spent.txid != claim.outcome_txid:
        return Survey(tip, (outcome,), claim, diverted=True)
    if outcome.height is None:
        return Survey(tip, (outcome,), claim)

    taken = None
    spent = await chain.outspend(claim.outcome_txid, 0)
    split = _delayed(Kind.SPLIT, outcome.height, delta, tip, spent)
    if spent is not None and spent.txid != claim.split_txid:
        transaction = await _transaction(chain, spent.txid)
        key = ranking_of_split(dlc, claim.outcome.key, spent.txid)
        if key is not None:
            claim = claim.after_split(key, transaction.serialize())
        else:
            taproot = dlc.outcome_taproot(dlc.winners(claim.outcome.key))
            leaf = _leaf(taproot, transaction, spent.vin)
            taken = _OUTCOME_TAKEN[leaf is None] + f" ({spent.txid})"
    if taken is not None or split.height is None:
        return Survey(tip, (outcome, split), claim, taken)

    spent = await chain.outspend(claim.split_txid, claim.split_vout)
    win = _delayed(Kind.WIN, split.height, delta, tip, spent)
    if spent is not None:
        leaf = _leaf(dlc.split_taproot(claim.player), await _transaction(chain, spent.txid), spent.vin)
        if leaf != _WIN_LEAF:
            taken = _SPLIT_TAKEN[leaf] + f" ({spent.txid})"
    return Survey(tip, (outcome, split, win), claim, taken)


# By whether the key path was used.
_OUTCOME_TAKEN = {
    True: "the winners and the market maker moved the prize together, with keys handed over",
    False: "too late: the market maker reclaimed the prize, twice the waiting time after the outcome",
}
# By leaf of `TicketedDLC.split_taproot`; None is the key path.
_WIN_LEAF = 1
_SPLIT_TAKEN = {
    None: "your prize was moved with your own key, which you had handed over after being paid",
    0: "your prize was sold back: the market maker has the payout preimage, which a paid invoice gives",
    2: "too late: the market maker reclaimed your prize, twice the waiting time after the split",
}


def _outcome_step(dlc: TicketedDLC, outcome: Outcome, tip: ChainTip, spent: Outspend | None) -> Step:
    if spent is not None:
        return Step(Kind.OUTCOME, spent.txid, spent.block_height)
    lock = dlc.outcome_tx(outcome.key).lock_time
    if lock == 0:
        return Step(Kind.OUTCOME, ready=True)
    # A lock time is over in the first block after it; times are compared with the median time of the blocks
    # before it (BIP113).
    if lock < LOCKTIME_THRESHOLD:
        return Step(Kind.OUTCOME, from_height=lock + 1, ready=tip.height >= lock)
    return Step(Kind.OUTCOME, from_time=lock, ready=tip.median_time_at > lock)


def _delayed(kind: Kind, parent_height: int, delta: int, tip: ChainTip, spent: Outspend | None) -> Step:
    """A transaction that waits `delta` blocks after the one it spends (BIP68)."""
    from_height, before_height = parent_height + delta, parent_height + 2 * delta
    return Step(
        kind,
        None if spent is None else spent.txid,
        None if spent is None else spent.block_height,
        from_height,
        None,
        before_height,
        tip.height + 1 >= from_height,
    )


def _leaf(taproot: TaprootOutput, spender: Transaction, index: int) -> int | None:
    """Which leaf an input used; None for the key path."""
    witness: Sequence[bytes] = spender.inputs[index].witness
    if len(witness) < 2 or witness[-2] not in taproot.scripts:
        return None
    return taproot.scripts.index(witness[-2])


def _pair(dlc: TicketedDLC) -> tuple[str, int]:
    return dlc.funding_outpoint.txid, dlc.funding_outpoint.vout


async def _transaction(chain: Chain, txid: str) -> Transaction:
    raw = await chain.transaction(txid)
    if raw is None:
        raise ChainError(f"the server lost transaction {txid}")
    return _parse(raw)


def _parse(raw: bytes) -> Transaction:
    try:
        return Transaction.parse(raw)
    except ContractError as error:
        raise ChainError(f"the server's transaction cannot be read: {error}") from None
