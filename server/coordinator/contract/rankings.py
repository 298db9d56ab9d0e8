"""Outcomes of a ranking competition: who takes the places, and in which order.

With n entries and w places the outcomes are all w-permutations of 0..n-1 in lexicographic order, then one
last for "refund all", which ranks all n. `w < n`: with w = n the refund's message would equal a ranking's.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, combinations, permutations
from math import perm

from coordinator.contract.errors import InvalidParameters

MAX_PLACES = 5


def check(entries: int, places: int) -> None:
    """
    Raises:
        InvalidParameters: Not 1 <= places <= 5, or not places < entries.
    """
    if not 1 <= places <= MAX_PLACES:
        raise InvalidParameters(f"there are 1 to {MAX_PLACES} places, not {places}", field="places")
    if places >= entries:
        raise InvalidParameters(f"{places} places need at least {places + 1} entries", field="entries")


def count(entries: int, places: int) -> int:
    """Number of outcomes, refund included (the expiry is not an outcome the oracle attests to)."""
    check(entries, places)
    return perm(entries, places) + 1


def rankings(entries: int, places: int) -> Iterator[tuple[int, ...]]:
    """Every outcome's ranking in order, the refund (all entries) last."""
    check(entries, places)
    return chain(permutations(range(entries), places), (tuple(range(entries)),))


def ranking_at(entries: int, places: int, index: int) -> tuple[int, ...]:
    """The ranking of an outcome by its index.

    Raises:
        InvalidParameters: No such outcome.
    """
    total = count(entries, places)
    if not 0 <= index < total:
        raise InvalidParameters(f"outcomes are 0 to {total - 1}", field="index")
    if index == total - 1:
        return tuple(range(entries))
    left = list(range(entries))
    ranking = []
    for place in range(places):
        block = perm(entries - place - 1, places - place - 1)
        at, index = divmod(index, block)
        ranking.append(left.pop(at))
    return tuple(ranking)


def index_of(entries: int, places: int, ranking: Sequence[int]) -> int:
    """The index of a ranking's outcome.

    Raises:
        InvalidParameters: Not a ranking of this competition.
    """
    total = count(entries, places)
    if tuple(ranking) == tuple(range(entries)):
        return total - 1
    if len(ranking) != places:
        raise InvalidParameters(f"a ranking has {places} winners", field="ranking")
    left = list(range(entries))
    index = 0
    for place, entry in enumerate(ranking):
        if entry not in left:
            raise InvalidParameters(f"entry {entry} does not exist or is ranked twice", field="ranking")
        at = left.index(entry)
        index += at * perm(entries - place - 1, places - place - 1)
        del left[at]
    return index


def winner_sets(entries: int, places: int) -> Iterator[tuple[int, ...]]:
    """Every set of winners that shares the prize, ascending; the refund's (everybody) last."""
    check(entries, places)
    return chain(combinations(range(entries), places), (tuple(range(entries)),))
