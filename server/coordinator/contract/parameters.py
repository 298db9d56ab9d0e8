"""What the parties of a contract agree on; everything else follows from it (see `coordinator.contract.dlc`).

The JSON form is that of the Rust crate `dlctix` 0.0.7's `ContractParameters`.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from coordinator.contract import rankings
from coordinator.contract.errors import InvalidParameters, InvalidPoint
from coordinator.contract.payouts import EXPIRY_INDEX, OutcomePayouts, outcome_key
from coordinator.contract.points import PointList
from coordinator.contract.secp import parse_point
from coordinator.contract.sizes import MAX_MONEY_SATS
from coordinator.contract.weights import prize_weights

MAX_DELTA_BLOCKS = 0x7FFF
"""BIP68 and BIP112 look at 16 bits: beyond this ``2*delta`` wraps and lets the market maker reclaim early."""

_U32, _U64 = (1 << 32) - 1, (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Player:
    """A player: ephemeral public key (33 bytes), hash of the ticket and of the payout preimage (32 bytes)."""

    pubkey: bytes
    ticket_hash: bytes
    payout_hash: bytes


@dataclass(frozen=True, slots=True)
class EventLock:
    """The oracle's event: one locking point an outcome, and when it counts as silent.

    Attributes:
        locking_points: 33 bytes each; held as a `PointList`.
        expiry: Lock time (Unix seconds, or block height below 500,000,000) of the expiry, or None for none.
    """

    locking_points: Sequence[bytes]
    expiry: int | None

    def __post_init__(self) -> None:
        if not isinstance(self.locking_points, PointList):
            object.__setattr__(self, "locking_points", PointList(self.locking_points))

    @property
    def points(self) -> PointList:
        assert isinstance(self.locking_points, PointList)
        return self.locking_points


@dataclass(frozen=True, slots=True)
class ContractParameters:
    """Parameters of a ticketed DLC.

    Attributes:
        market_maker: Public key, 33 bytes.
        players: In contract order; indices everywhere refer to it.
        event: Locking points and expiry.
        outcome_payouts: Weights by outcome; held as `OutcomePayouts`.
        fee_rate: Satoshis per 1000 weight units (250 = 1 sat/vB).
        funding_value: Satoshis.
        relative_locktime_block_delta: Blocks that a step of the contract waits for.
    """

    market_maker: bytes
    players: tuple[Player, ...]
    event: EventLock
    outcome_payouts: Mapping[str, Mapping[int, int]]
    fee_rate: int
    funding_value: int
    relative_locktime_block_delta: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "players", tuple(self.players))
        if not isinstance(self.outcome_payouts, OutcomePayouts):
            object.__setattr__(self, "outcome_payouts", OutcomePayouts(self.outcome_payouts))

    @property
    def payouts(self) -> OutcomePayouts:
        assert isinstance(self.outcome_payouts, OutcomePayouts)
        return self.outcome_payouts

    def validate(self) -> None:
        """Check every rule of the contract that does not need its transactions.

        `TicketedDLC` also checks that every output is worth more than dust.

        Raises:
            InvalidParameters: Names the field.
            InvalidPoint: A key or locking point is not a point; names the field.
        """
        _check_point(self.market_maker, "market_maker.pubkey")
        if not self.players:
            raise InvalidParameters("a contract needs players", field="players")
        for i, player in enumerate(self.players):
            _check_point(player.pubkey, f"players[{i}].pubkey")
            for name in ("ticket_hash", "payout_hash"):
                if len(getattr(player, name)) != 32:
                    raise InvalidParameters("must be 32 bytes", field=f"players[{i}].{name}")
        seen: dict[bytes, int] = {}
        for i, player in enumerate(self.players):
            if seen.setdefault(player.ticket_hash, i) != i:
                first = seen[player.ticket_hash]
                raise InvalidParameters(f"is players[{first}]'s too", field=f"players[{i}].ticket_hash")
        self.event.points.validate("event.locking_points")
        if self.event.expiry is not None:
            _check_int(self.event.expiry, 0, _U32, "event.expiry")
        _check_int(self.fee_rate, 1, _U64, "fee_rate")
        _check_int(self.funding_value, 1, MAX_MONEY_SATS, "funding_value")
        _check_int(self.relative_locktime_block_delta, 1, MAX_DELTA_BLOCKS, "relative_locktime_block_delta")
        self._check_payouts()

    def _check_payouts(self) -> None:
        payouts = self.payouts
        if not payouts:
            raise InvalidParameters("a contract needs outcomes", field="outcome_payouts")
        for row in range(len(payouts)):
            index = payouts.index_at(row)
            players, weights = payouts.players_at(row), payouts.weights_at(row)
            if index == EXPIRY_INDEX:
                problem = "the event does not expire" if self.event.expiry is None else None
            else:
                problem = None if index < len(self.event.points) else "the event has no such outcome"
            if problem is None:
                problem = self._payout_problem(players, weights)
            if problem is not None:
                raise InvalidParameters(problem, field=f"outcome_payouts.{outcome_key(index)}")

    def _payout_problem(self, players: tuple[int, ...], weights: tuple[int, ...]) -> str | None:
        if not players:
            return "nobody is paid"
        if players[-1] >= len(self.players):
            return f"there is no player {players[-1]}"
        if 0 in weights:
            return "a weight is zero: leave the player out"
        if max(weights) * self.funding_value > _U64 or sum(weights) > _U64:
            return "weights are too large"
        return None

    def to_dict(self) -> dict[str, Any]:
        """The JSON object, as `dlctix` 0.0.7 writes it."""
        return {
            "market_maker": {"pubkey": self.market_maker.hex()},
            "players": [
                {
                    "pubkey": player.pubkey.hex(),
                    "ticket_hash": player.ticket_hash.hex(),
                    "payout_hash": player.payout_hash.hex(),
                }
                for player in self.players
            ],
            "event": {
                "locking_points": [point.hex() for point in self.event.points],
                "expiry": self.event.expiry,
            },
            "outcome_payouts": {
                key: {str(player): weight for player, weight in row.items()}
                for key, row in self.payouts.items()
            },
            "fee_rate": self.fee_rate,
            "funding_value": self.funding_value,
            "relative_locktime_block_delta": self.relative_locktime_block_delta,
        }

    def to_json(self) -> str:
        """Compact JSON, byte for byte what `dlctix` 0.0.7 writes."""
        return json.dumps(self.to_dict(), separators=(",", ":"))

    @classmethod
    def from_json(cls, data: str | bytes | Mapping[str, Any]) -> Self:
        """From JSON text, or the object parsed from it. Checks the form; `validate` checks the rest.

        Raises:
            InvalidParameters: Malformed; names the field.
            InvalidPoint: A point has not 33 bytes.
        """
        if not isinstance(data, Mapping):
            try:
                data = json.loads(data, object_pairs_hook=_no_duplicates)
            except (ValueError, RecursionError) as error:
                raise InvalidParameters(f"not JSON: {error}") from None
        event = _member(data, "event", dict)
        expiry = event.get("expiry")
        if expiry is not None:
            _check_int(expiry, 0, _U32, "event.expiry")
        points = _member(event, "locking_points", list, "event.")
        return cls(
            market_maker=_hex(_member(data, "market_maker", dict), "pubkey", "market_maker.", 33),
            players=tuple(
                Player(
                    _hex(player, "pubkey", f"players[{i}].", 33),
                    _hex(player, "ticket_hash", f"players[{i}].", 32),
                    _hex(player, "payout_hash", f"players[{i}].", 32),
                )
                for i, player in enumerate(_member(data, "players", list))
            ),
            event=EventLock(
                PointList(_unhex(point, f"event.locking_points[{i}]", 33) for i, point in enumerate(points)),
                expiry,
            ),
            outcome_payouts=OutcomePayouts(
                {
                    key: {_player_index(player, key): weight for player, weight in _row(row, key).items()}
                    for key, row in _member(data, "outcome_payouts", dict).items()
                }
            ),
            fee_rate=_int(data, "fee_rate"),
            funding_value=_int(data, "funding_value"),
            relative_locktime_block_delta=_int(data, "relative_locktime_block_delta"),
        )


def competition_parameters(
    market_maker: bytes,
    players: Sequence[Player],
    places: int,
    event: EventLock,
    fee_rate: int,
    funding_value: int,
    delta: int,
) -> ContractParameters:
    """Parameters of a ranking competition: prize weights by place; refund and expiry in equal parts.

    Args:
        market_maker: Public key, 33 bytes.
        players: Its entries, in the oracle's order.
        places: Number of places that win, 1 to 5, fewer than players.
        event: One locking point for each of `rankings.rankings`, in that order.
        fee_rate: Satoshis per 1000 weight units.
        funding_value: Satoshis.
        delta: Blocks that a step of the contract waits for.

    Raises:
        InvalidParameters: A value is out of range, or the event has another number of outcomes.
        InvalidPoint: A key or locking point is not a point.
    """
    entries = len(players)
    outcomes = rankings.count(entries, places)
    if len(event.points) != outcomes:
        raise InvalidParameters(
            f"{entries} entries and {places} places have {outcomes} outcomes, not {len(event.points)}",
            field="event.locking_points",
        )

    payouts = competition_payouts(entries, places, expires=event.expiry is not None)
    parameters = ContractParameters(
        market_maker, tuple(players), event, payouts, fee_rate, funding_value, delta
    )
    parameters.validate()
    return parameters


def competition_payouts(entries: int, places: int, *, expires: bool) -> OutcomePayouts:
    """Payouts of a ranking competition's outcomes: prize weights by place; refund and expiry in equal parts.

    Raises:
        InvalidParameters: There is no such competition.
    """
    weights, refund = prize_weights(places), rankings.count(entries, places) - 1

    def rows() -> Iterator[tuple[int, Iterable[tuple[int, int]]]]:
        for index, ranking in enumerate(rankings.rankings(entries, places)):
            yield index, zip(ranking, weights if index < refund else (1,) * entries, strict=True)
        if expires:
            yield EXPIRY_INDEX, ((player, 1) for player in range(entries))

    return OutcomePayouts.from_rows(rows())


def _check_point(point: bytes, field: str) -> None:
    try:
        parse_point(point)
    except InvalidPoint as error:
        raise InvalidPoint(str(error), field=field) from None


def _check_int(value: object, least: int, most: int, field: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidParameters(f"must be an integer from {least} to {most}", field=field)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result


def _member(data: object, name: str, kind: type, prefix: str = "") -> Any:
    if not isinstance(data, Mapping) or not isinstance(data.get(name), kind):
        what = "an object" if kind is dict else "a list"
        raise InvalidParameters(f"must be {what}", field=prefix + name)
    return data[name]


def _int(data: object, name: str) -> int:
    value: int = data.get(name, -1) if isinstance(data, Mapping) else -1
    _check_int(value, 0, _U64, name)
    return value


def _hex(data: object, name: str, prefix: str, length: int) -> bytes:
    return _unhex(data.get(name) if isinstance(data, Mapping) else None, prefix + name, length)


def _unhex(value: object, field: str, length: int) -> bytes:
    try:
        # `fromhex` skips spaces: the result's length counts too.
        if (
            isinstance(value, str)
            and len(value) == 2 * length
            and len(data := bytes.fromhex(value)) == length
        ):
            return data
    except ValueError:
        pass
    raise InvalidParameters(f"must be {length} bytes in hex", field=field)


def _row(row: object, key: str) -> Mapping[str, int]:
    field = f"outcome_payouts.{key:.20}"
    if not isinstance(row, Mapping):
        raise InvalidParameters("must be an object", field=field)
    for weight in row.values():
        _check_int(weight, 0, _U64, field)
    return row


def _player_index(player: str, key: str) -> int:
    if player.isascii() and player.isdecimal() and (player == "0" or player[0] != "0") and len(player) <= 9:
        return int(player)
    raise InvalidParameters(f"not a player index: {player!r:.20}", field=f"outcome_payouts.{key:.20}")
