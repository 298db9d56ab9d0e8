"""Outcome keys, and the payout weights of every outcome in a few flat arrays.

Outcomes are written ``att0``, ``att1``, … (the oracle attested to the event's message of that index) and
``exp`` (it attested to nothing in time); win conditions ``att3:p1``, ``exp:p0``. Their order is att0…attN,
then exp.
"""

import re
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import Self

from coordinator.contract.errors import InvalidParameters, UnknownOutcome

EXPIRY = "exp"
EXPIRY_INDEX = -1
"""Stands for `EXPIRY` where attestations are numbers."""

_OUTCOME = re.compile(r"att(0|[1-9][0-9]{0,9})")
_PLAYER = re.compile(r"p(0|[1-9][0-9]{0,9})")


def outcome_key(index: int) -> str:
    """``att<i>``, or ``exp`` for `EXPIRY_INDEX`."""
    return EXPIRY if index == EXPIRY_INDEX else f"att{index}"


def outcome_index(key: str) -> int:
    """The inverse of `outcome_key`.

    Raises:
        UnknownOutcome: Not an outcome key in its one canonical form.
    """
    if key == EXPIRY:
        return EXPIRY_INDEX
    match = _OUTCOME.fullmatch(key)
    if match is None:
        raise UnknownOutcome(f"not an outcome key: {key!r:.40}", field="outcome")
    return int(match[1])


def win_key(outcome: str, player: int) -> str:
    """``<outcome>:p<player>``."""
    return f"{outcome}:p{player}"


def parse_key(key: str) -> tuple[str, int | None]:
    """An outcome key or a win condition key as (outcome, player or None).

    Raises:
        UnknownOutcome: Neither.
    """
    outcome, colon, rest = key.partition(":")
    outcome_index(outcome)
    if not colon:
        return outcome, None
    match = _PLAYER.fullmatch(rest)
    if match is None:
        raise UnknownOutcome(f"not a win condition key: {key!r:.40}", field="outcome")
    return outcome, int(match[1])


class OutcomePayouts(Mapping[str, dict[int, int]]):
    """Payout weights (player index -> weight) by outcome, immutable.

    Reads like a dict of dicts; holds four arrays, since contracts have thousands of outcomes. Rows are
    numbered in outcome order, players within a row ascend.
    """

    __slots__ = ("_outcomes", "_players", "_starts", "_weights")

    def __init__(self, payouts: Mapping[str, Mapping[int, int]] | None = None) -> None:
        """
        Raises:
            InvalidParameters: A key, player index or weight is malformed.
        """
        payouts = payouts or {}
        try:
            rows = {outcome_index(key): row for key, row in payouts.items()}
        except UnknownOutcome as error:
            raise InvalidParameters(str(error), field="outcome_payouts") from None
        self._fill((index, rows[index].items()) for index in sorted(rows, key=_order))

    @classmethod
    def from_rows(cls, rows: Iterable[tuple[int, Iterable[tuple[int, int]]]]) -> Self:
        """From (outcome index, [(player, weight), …]) in outcome order, without an object per outcome.

        Raises:
            InvalidParameters: Not in order, or a player index or weight is malformed.
        """
        payouts = cls()
        payouts._fill(rows)
        return payouts

    def _fill(self, rows: Iterable[tuple[int, Iterable[tuple[int, int]]]]) -> None:
        self._outcomes = array("q")
        self._starts = array("Q", (0,))
        self._players = array("I")
        self._weights = array("Q")
        last: int | None = None
        for index, row in rows:
            if last is not None and _order(index) <= _order(last):
                raise InvalidParameters("outcomes are not in order", field="outcome_payouts")
            last = index
            pairs = sorted(row)
            try:
                self._players.extend(player for player, _ in pairs)
                self._weights.extend(weight for _, weight in pairs)
            except (OverflowError, TypeError):
                raise InvalidParameters(
                    "player indices are 32-bit and weights 64-bit unsigned integers",
                    field=f"outcome_payouts.{outcome_key(index)}",
                ) from None
            self._outcomes.append(index)
            self._starts.append(len(self._players))

    def index_at(self, row: int) -> int:
        """The outcome index of a row."""
        return self._outcomes[row]

    def players_at(self, row: int) -> tuple[int, ...]:
        """The winners of a row, ascending."""
        return tuple(self._players[self._starts[row] : self._starts[row + 1]])

    def weights_at(self, row: int) -> tuple[int, ...]:
        """The winners' weights, in the order of `players_at`."""
        return tuple(self._weights[self._starts[row] : self._starts[row + 1]])

    def row_of(self, key: str) -> int:
        """The row of an outcome.

        Raises:
            UnknownOutcome: The contract has no such outcome.
        """
        index = outcome_index(key)
        attested = len(self._outcomes) - self.has_expiry
        row = attested if index == EXPIRY_INDEX else bisect_left(self._outcomes, index, 0, attested)
        if row >= len(self._outcomes) or self._outcomes[row] != index:
            raise UnknownOutcome(f"the contract has no outcome {key}", field="outcome")
        return row

    def win_conditions_before(self, row: int) -> int:
        """How many win conditions all earlier rows have together."""
        return self._starts[row]

    @property
    def has_expiry(self) -> bool:
        return bool(self._outcomes) and self._outcomes[-1] == EXPIRY_INDEX

    @property
    def win_condition_count(self) -> int:
        return len(self._players)

    def __getitem__(self, key: str) -> dict[int, int]:
        try:
            row = self.row_of(key)
        except UnknownOutcome:
            raise KeyError(key) from None
        return dict(zip(self.players_at(row), self.weights_at(row), strict=True))

    def __iter__(self) -> Iterator[str]:
        return map(outcome_key, self._outcomes)

    def __len__(self) -> int:
        return len(self._outcomes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, OutcomePayouts):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __hash__(self) -> int:
        return hash((self._outcomes.tobytes(), self._players.tobytes(), self._weights.tobytes()))

    def __repr__(self) -> str:
        return f"<OutcomePayouts of {len(self)}>"


def _order(index: int) -> tuple[bool, int]:
    return index == EXPIRY_INDEX, index
