"""The escrows of a closed competition, rebuilt from its roster."""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.contract.escrow import Escrow, release_transaction
from coordinator.contract.funding import EscrowCoin, TicketEscrow
from coordinator.contract.utxo import OutPoint
from coordinator.domain.competition import EscrowPlan, RosterPlayer


def escrow_of(player: RosterPlayer) -> Escrow:
    """The escrow of one player."""
    return Escrow(player.escrow_coordinator_pubkey, player.ephemeral_pubkey, player.ticket_hash)


def ticket_escrows(roster: Sequence[RosterPlayer], value_sats: int) -> tuple[TicketEscrow, ...]:
    """Every escrow to be paid. Each holds the whole ticket price: who is settled and not funded loses
    nothing.
    """
    return tuple(TicketEscrow(player.ticket_id, escrow_of(player), value_sats) for player in roster)


def escrow_coin(roster: Sequence[RosterPlayer], plan: EscrowPlan, player_index: int) -> EscrowCoin:
    """The escrow output of one player: output i of the escrow transaction belongs to player i."""
    player = roster[player_index]
    return EscrowCoin(
        player.ticket_id, escrow_of(player), OutPoint(plan.txid, player_index), plan.escrow_value_sats
    )


def escrow_coins(roster: Sequence[RosterPlayer], plan: EscrowPlan) -> tuple[EscrowCoin, ...]:
    """All escrow outputs in player order."""
    return tuple(escrow_coin(roster, plan, index) for index in range(len(roster)))


def release_of(coin: EscrowCoin, plan: EscrowPlan) -> bytes:
    """The unsigned release of one escrow."""
    return release_transaction(
        coin.outpoint,
        coin.value_sats,
        coin.escrow,
        plan.release_script_pubkey,
        plan.release_fee_rate_sats_per_vb,
        plan.release_blocks,
    )
