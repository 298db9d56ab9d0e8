"""Coin selection: an exact match without change where there is one, else a subset that leaves good change.

First branch and bound, as in Mark Erhardt's "An Evaluation of Coin Selection Strategies" (2016), which looks
for coins that need no change; then a knapsack approximation. Both count coins by their effective value (value
less the fee of spending it), and both depend on nothing but the coins, the need and the given randomness.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from coordinator.contract.sizes import (
    P2TR_KEY_INPUT_WEIGHT,
    count_weight,
    dust_limit_sats,
    fee_rate_sat_kvb,
    fee_sats,
    output_weight,
)
from coordinator.domain.wallet.coins import WalletCoin
from coordinator.domain.wallet.errors import InsufficientFunds, WalletError

_BRANCH_AND_BOUND_STEPS = 20_000
_KNAPSACK_ROUNDS = 100
# Rounding up to a virtual byte (3 wu); counts of inputs and outputs of three bytes, not one (8 wu each).
_ROUNDING_WEIGHT = 3 + 16


@dataclass(frozen=True, slots=True)
class Need:
    """What the selected coins have to pay for.

    Args:
        target_sats: Sum of the outputs, less the inputs that the transaction has anyway; may be negative.
        base_weight: Weight of the transaction without wallet coins and change, its counts taken as one byte.
        inputs: How many inputs it has anyway.
        outputs: How many outputs it has before change.
        change_script: Where change would go.
        fee_rate_sat_vb: A valid fee rate.
    """

    target_sats: int
    base_weight: int
    inputs: int
    outputs: int
    change_script: bytes
    fee_rate_sat_vb: float

    def required_sats(self, coins: int, *, change: bool) -> int:
        """What this many coins have to bring in, change itself excluded."""
        weight = self.base_weight + coins * P2TR_KEY_INPUT_WEIGHT
        weight += count_weight(self.inputs + coins, self.outputs + change)
        if change:
            weight += output_weight(self.change_script)
        return self.target_sats + fee_sats(weight, self.fee_rate_sat_vb)

    @property
    def least_change_sats(self) -> int:
        """Less than this is not worth an output: it is dust, or costs more to spend than it holds."""
        spending = fee_sats(P2TR_KEY_INPUT_WEIGHT, self.fee_rate_sat_vb)
        return max(dust_limit_sats(self.change_script), spending)

    @property
    def most_given_away_sats(self) -> int:
        """What a transaction without change may leave to the fee beyond the fee rate."""
        return fee_sats(output_weight(self.change_script), self.fee_rate_sat_vb) + self.least_change_sats


@dataclass(frozen=True, slots=True)
class Selection:
    """The coins to spend, in the order of their outpoints, and what becomes of their value."""

    coins: tuple[WalletCoin, ...]
    change_sats: int
    """0: no change output."""
    fee_sats: int


def spendable_coins(
    coins: Iterable[WalletCoin], fee_rate_sat_vb: float, *, include_unconfirmed: bool = False
) -> list[WalletCoin]:
    """Coins that may be spent and are worth more than their fee, greatest first.

    Raises:
        WalletError: A coin occurs twice.
    """
    candidates = sorted(coins, key=lambda coin: (-coin.value_sats, coin.outpoint))
    if len({coin.outpoint for coin in candidates}) != len(candidates):
        raise WalletError("coins", "a coin occurs twice")
    return [
        coin
        for coin in candidates
        if not coin.locked
        and (coin.confirmed or include_unconfirmed)
        and coin.value_sats > fee_sats(P2TR_KEY_INPUT_WEIGHT, fee_rate_sat_vb)
    ]


def select_coins(
    coins: Iterable[WalletCoin],
    need: Need,
    *,
    include_unconfirmed: bool = False,
    rng: random.Random | None = None,
) -> Selection:
    """Choose coins. Locked ones are never chosen.

    Args:
        rng: Randomness for the knapsack. None makes the choice a function of the other arguments alone.

    Raises:
        InsufficientFunds: They do not suffice.
        WalletError: A coin occurs twice.
    """
    candidates = spendable_coins(coins, need.fee_rate_sat_vb, include_unconfirmed=include_unconfirmed)
    available = sum(coin.value_sats for coin in candidates)
    if available < need.required_sats(len(candidates), change=False):
        raise InsufficientFunds(need.required_sats(len(candidates), change=False), available)
    chosen = _branch_and_bound(candidates, need)
    if chosen is None:
        chosen = _knapsack(candidates, need, rng or random.Random(0))
    if chosen is None:
        chosen = _largest_first(candidates, need)
    return _settle(chosen, need)


def _settle(chosen: Sequence[WalletCoin], need: Need) -> Selection:
    total = sum(coin.value_sats for coin in chosen)
    change = total - need.required_sats(len(chosen), change=True)
    if change <= need.least_change_sats:
        change = 0
    ordered = tuple(sorted(chosen, key=lambda coin: coin.outpoint))
    return Selection(ordered, change, total - need.target_sats - change)


def _effective_values(candidates: Sequence[WalletCoin], need: Need) -> tuple[list[int], int]:
    # In 1/4000 sats, in which weight times sat/kvB is exact.
    rate = fee_rate_sat_kvb(need.fee_rate_sat_vb)
    values = [coin.value_sats * 4000 - P2TR_KEY_INPUT_WEIGHT * rate for coin in candidates]
    return values, need.target_sats * 4000 + need.base_weight * rate


def _branch_and_bound(candidates: Sequence[WalletCoin], need: Need) -> list[WalletCoin] | None:
    """The coins that overshoot least among those that overshoot by less than change would cost, if any."""
    values, least = _effective_values(candidates, need)
    most_excess = need.most_given_away_sats
    best: list[int] | None = None
    chosen: list[int] = []
    total_sats, total_value, ahead = 0, 0, sum(values)
    position = 0
    for _ in range(_BRANCH_AND_BOUND_STEPS):
        excess = total_sats - need.required_sats(len(chosen), change=False)
        enough = excess >= 0 and need.inputs + len(chosen) > 0
        if enough and excess <= most_excess:
            best, most_excess = chosen.copy(), excess - 1
            if excess == 0:
                break
        if enough or total_value + ahead < least or position == len(candidates):
            if not chosen:
                break
            # Leave out the last one taken; what was skipped after it comes into reach again.
            last = chosen.pop()
            ahead += sum(values[last + 1 : position])
            total_sats -= candidates[last].value_sats
            total_value -= values[last]
            position = last + 1
            continue
        value = values[position]
        ahead -= value
        # A coin of the same value as one just left out would only repeat its branch.
        if position == 0 or (chosen and chosen[-1] == position - 1) or value != values[position - 1]:
            chosen.append(position)
            total_sats += candidates[position].value_sats
            total_value += value
        position += 1
    return None if best is None else [candidates[index] for index in best]


def _knapsack(candidates: Sequence[WalletCoin], need: Need, rng: random.Random) -> list[WalletCoin] | None:
    """About the least subset that leaves worthwhile change, or the one coin that does so with less."""
    values, least = _effective_values(candidates, need)
    # Enough whatever the rounding of the fee and the length of the counts: what is too much becomes change.
    rate = fee_rate_sat_kvb(need.fee_rate_sat_vb)
    enough = least + need.least_change_sats * 4000 + 4000
    enough += rate * (output_weight(need.change_script) + _ROUNDING_WEIGHT)
    if need.inputs and enough <= 0:
        return []
    single = [index for index, value in enumerate(values) if value >= enough]
    smaller = [index for index, value in enumerate(values) if value < enough]
    best: list[int] | None = single[-1:] or None
    best_value = values[single[-1]] if single else 0
    if sum(values[index] for index in smaller) >= enough:
        for _ in range(_KNAPSACK_ROUNDS):
            first, then = list[int](), list[int]()
            for index in smaller:
                (first if rng.random() < 0.5 else then).append(index)
            total, subset = 0, list[int]()
            for index in first + then:
                value = values[index]
                if total + value < enough:
                    subset.append(index)
                    total += value
                elif best is None or total + value < best_value:
                    # Go on without it: a smaller one further on may do.
                    best, best_value = [*subset, index], total + value
    return None if best is None else [candidates[index] for index in best]


def _largest_first(candidates: Sequence[WalletCoin], need: Need) -> list[WalletCoin]:
    """The last resort, when the coins suffice but leave nothing worth an output of change."""
    chosen: list[WalletCoin] = []
    total = 0
    for coin in candidates:
        chosen.append(coin)
        total += coin.value_sats
        if total >= need.required_sats(len(chosen), change=False):
            break
    return chosen
