"""What the tool tells the player, in words."""

from datetime import UTC, datetime

from coordinator.contract.dlc import TicketedDLC
from coordinator.contract.observed import Outcome
from coordinator.ports.chain import ChainTip
from coordinator.recover.survey import LOCKTIME_THRESHOLD, Kind, Step

_HOURS_A_BLOCK = 1 / 6


def contract_summary(dlc: TicketedDLC) -> str:
    """What contract this is."""
    parameters = dlc.parameters
    return (
        f"Contract: {len(parameters.players)} players, {parameters.funding_value:,} sats in "
        f"{dlc.funding_outpoint}, waiting time {parameters.relative_locktime_block_delta} blocks."
    )


def outcome_summary(dlc: TicketedDLC, outcome: Outcome, player: int) -> str:
    """Who won what."""
    ended = "The event expired without an attestation" if outcome.expired else f"Outcome: {outcome.key}"
    shares = dlc.payouts(outcome.key)
    paid = ", ".join(
        f"player {index}{' (you)' if index == player else ''} {shares[index]:,} sats"
        for index in dlc.rank(outcome.key)
    )
    return f"{ended}. It pays {paid}."


def no_outcome(dlc: TicketedDLC) -> str:
    """What can be done while there is no outcome."""
    expiry = dlc.parameters.event.expiry
    text = "There is no attestation yet: nothing can be taken."
    if expiry is not None:
        text += (
            f" The contract expires {when(expiry)}; after that, --expiry gives every player its share back."
        )
    return text


def when(lock: int) -> str:
    """A lock time."""
    if lock < LOCKTIME_THRESHOLD:
        return f"at block {lock}"
    return f"at {datetime.fromtimestamp(lock, UTC):%Y-%m-%d %H:%M:%S} UTC"


def step_name(kind: Kind, outcome: Outcome) -> str:
    """A transaction's name."""
    if kind is Kind.OUTCOME:
        return "expiry transaction" if outcome.expired else "outcome transaction"
    return "split transaction" if kind is Kind.SPLIT else "win transaction"


def step_state(step: Step, tip: ChainTip) -> str:
    """Where a transaction stands."""
    if step.confirmed:
        return f"done, in block {step.height} ({step.txid})"
    if step.txid is not None:
        return f"waits in the mempool for a block ({step.txid})"
    if step.ready:
        text = "possible now"
    elif step.from_time is not None:
        text = (
            f"possible {when(step.from_time)} by the chain's clock, which is at "
            f"{datetime.fromtimestamp(tip.median_time_at, UTC):%H:%M:%S}"
        )
    else:
        assert step.from_height is not None
        text = f"possible from block {step.from_height} on, {_blocks(step.from_height - tip.height - 1)} more"
    if step.before_height is not None:
        text += f"; to be done before block {step.before_height}, when the market maker may take it instead"
    return text


def untimed(kind: Kind, dlc: TicketedDLC, outcome: Outcome) -> str:
    """When a transaction becomes possible, without a look at the chain."""
    delta = dlc.parameters.relative_locktime_block_delta
    if kind is Kind.OUTCOME:
        lock = dlc.outcome_tx(outcome.key).lock_time
        return f"possible {when(lock)} (by median time)" if lock else "possible at once"
    parent = "outcome" if kind is Kind.SPLIT else "split"
    return (
        f"possible {delta} blocks after the {parent} transaction's block, "
        f"and before {2 * delta} blocks after it, when the market maker may take the money instead"
    )


def _blocks(count: int) -> str:
    hours = count * _HOURS_A_BLOCK
    rough = f"{hours * 60:.0f} minutes" if hours < 1.5 else f"{hours:.0f} hours"
    return f"{count} block{'' if count == 1 else 's'} (about {rough})"
