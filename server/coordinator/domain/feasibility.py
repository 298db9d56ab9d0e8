"""Whether terms can become a contract, before anybody pays: by building one with stand-in players."""

from __future__ import annotations

import math

from coordinator.contract.dlc import TicketedDLC
from coordinator.contract.parameters import ContractParameters, EventLock, Player
from coordinator.contract.payouts import EXPIRY, OutcomePayouts
from coordinator.contract.secp import public_key, sha256
from coordinator.contract.weights import prize_weights
from coordinator.domain.contracts import SATS_PER_KWU_OF_ONE_SAT_PER_VB
from coordinator.domain.terms import Terms

_ANY_TXID = "11" * 32


def check_feasible(terms: Terms, market_maker: bytes) -> None:
    """Builds the smallest and the largest field's contract: one ranking, and equal shares for all.

    Raises:
        ContractError: an output would be dust or not pay its fee.
    """
    for entries in {terms.min_entries, terms.total_allowed_entries}:
        players = tuple(_stand_in(index) for index in range(entries))
        ranking = dict(enumerate(prize_weights(terms.number_of_places_win)))
        parameters = ContractParameters(
            market_maker,
            players,
            EventLock((players[0].pubkey,), 1),
            OutcomePayouts({"att0": ranking, EXPIRY: dict.fromkeys(range(entries), 1)}),
            terms.fee_rate_sats_per_vb * SATS_PER_KWU_OF_ONE_SAT_PER_VB,
            terms.funding_value_sats(entries),
            terms.relative_locktime_blocks,
        )
        TicketedDLC(parameters, (_ANY_TXID, 0))


def keygen_sessions_needed(terms: Terms, max_subsets: int) -> int:
    """How many keygen sessions hold every set of winners of a full field."""
    winner_sets = math.comb(terms.total_allowed_entries, terms.number_of_places_win)
    return max(1, math.ceil(winner_sets / max_subsets))


def _stand_in(index: int) -> Player:
    seed = sha256(b"stand-in" + index.to_bytes(4, "big"))
    return Player(public_key(seed), seed, seed)
