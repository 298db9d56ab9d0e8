"""From a competition's state to its contract: parameters, funding transaction and the ticketed DLC."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from coordinator.contract.attestation import locking_points, outcome_message
from coordinator.contract.dlc import TicketedDLC, group_script
from coordinator.contract.funding import FundingTransaction
from coordinator.contract.parameters import ContractParameters, EventLock, Player, competition_parameters
from coordinator.contract.rankings import rankings
from coordinator.contract.utxo import Coin, Output
from coordinator.domain.competition import Announcement, EscrowPlan, Facts, RosterPlayer
from coordinator.domain.escrow import escrow_coins
from coordinator.domain.states import Contracted

# dlctix counts fee rates in sats per 1000 weight units: 1 sat/vB = 250.
SATS_PER_KWU_OF_ONE_SAT_PER_VB = 250


def contract_parameters(
    facts: Facts, roster: Sequence[RosterPlayer], announcement: Announcement
) -> ContractParameters:
    """The contract's parameters; locking points are recomputed from the announcement.

    Raises:
        ContractError: the terms cannot make a contract, e.g. a prize would be dust.
    """
    terms = facts.terms
    places = terms.number_of_places_win
    messages = (outcome_message(ranking) for ranking in rankings(len(roster), places))
    points = locking_points(announcement.oracle_pubkey, announcement.nonce_point, messages)
    return competition_parameters(
        facts.market_maker_pubkey,
        [Player(player.ephemeral_pubkey, player.ticket_hash, player.payout_hash) for player in roster],
        places,
        EventLock(points, announcement.expiry),
        terms.fee_rate_sats_per_vb * SATS_PER_KWU_OF_ONE_SAT_PER_VB,
        terms.funding_value_sats(len(roster)),
        terms.relative_locktime_blocks,
    )


def funding_output(facts: Facts, roster: Sequence[RosterPlayer]) -> Output:
    """The contract's funding output, which does not depend on its outcomes."""
    keys = [facts.market_maker_pubkey, *(player.ephemeral_pubkey for player in roster)]
    return Output(group_script(keys), facts.terms.funding_value_sats(len(roster)))


def build_funding(
    facts: Facts,
    roster: Sequence[RosterPlayer],
    escrow: EscrowPlan,
    coins: Iterable[Coin],
    change_script: bytes,
    fee_rate_sats_per_vb: float,
) -> FundingTransaction:
    """The funding transaction: all escrows and the given coins in, funding output and change out.

    Raises:
        Underfunded: the coins do not suffice.
        ContractError: it cannot be built.
    """
    output = funding_output(facts, roster)
    return FundingTransaction.build(
        escrow_coins(roster, escrow),
        coins,
        funding_script=output.script_pubkey,
        funding_value_sats=output.value_sats,
        change_script=change_script,
        fee_rate_sat_vb=fee_rate_sats_per_vb,
    )


def rebuild_funding(status: Contracted, coins: Sequence[Coin]) -> FundingTransaction:
    """The funding transaction as planned, from the wallet coins that the plan names.

    Raises:
        ContractError: it cannot be built.
        ValueError: it came out with another txid: the stored state does not fit this program.
    """
    plan = status.funding
    transaction = build_funding(
        status.facts,
        status.roster,
        status.escrow,
        coins,
        plan.change_script_pubkey,
        plan.fee_rate_sats_per_vb,
    )
    if transaction.txid != plan.txid:
        raise ValueError(f"the funding transaction {plan.txid} was rebuilt as {transaction.txid}")
    return transaction


def dlc_of(status: Contracted) -> TicketedDLC:
    """The contract of a competition that has one. Costs seconds for large fields: keep it, or build it in a
    pool.
    """
    parameters = contract_parameters(status.facts, status.roster, status.announcement)
    return TicketedDLC(parameters, (status.funding.txid, 0))
