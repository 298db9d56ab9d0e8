"""How the prize is divided: percent by place. Refund and expiry give everybody the same weight, 1."""

from coordinator.contract.errors import InvalidParameters

PRIZE_WEIGHTS: dict[int, tuple[int, ...]] = {
    1: (100,),
    2: (60, 40),
    3: (45, 35, 20),
    4: (42, 30, 18, 10),
    5: (40, 27, 16, 9, 8),
}


def prize_weights(places: int) -> tuple[int, ...]:
    """Weights of the places, best first; they sum to 100.

    Raises:
        InvalidParameters: Not 1 to 5 places.
    """
    try:
        return PRIZE_WEIGHTS[places]
    except KeyError:
        raise InvalidParameters(f"there are 1 to 5 places, not {places}", field="places") from None
