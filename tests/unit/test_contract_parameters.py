"""Contract parameters: rules, JSON form, and the outcomes of a ranking competition."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from coordinator.contract import rankings
from coordinator.contract.attestation import locking_point, outcome_message
from coordinator.contract.dlc import TicketedDLC, funding_output, funding_script_pubkey
from coordinator.contract.errors import (
    ContractError,
    InvalidParameters,
    InvalidPoint,
    UnknownOutcome,
)
from coordinator.contract.parameters import (
    ContractParameters,
    EventLock,
    Player,
    competition_parameters,
)
from coordinator.contract.payouts import OutcomePayouts, outcome_index, parse_key
from coordinator.contract.points import PointList
from coordinator.contract.secp import public_key
from coordinator.contract.weights import PRIZE_WEIGHTS, prize_weights
from support.contract import competition, secret


def parameters() -> ContractParameters:
    return competition(3, 2).parameters


def with_player(base: ContractParameters, index: int, **changes: bytes) -> ContractParameters:
    players = list(base.players)
    players[index] = replace(players[index], **changes)
    return replace(base, players=tuple(players))


def with_payouts(base: ContractParameters, **rows: dict[int, int]) -> ContractParameters:
    return replace(base, outcome_payouts={**base.outcome_payouts, **rows})


def bad_point(base: ContractParameters) -> ContractParameters:
    points = [*base.event.locking_points]
    points[2] = b"\x02" + bytes(32)
    return replace(base, event=EventLock(points, None))


BROKEN: list[tuple[str, Callable[[ContractParameters], ContractParameters]]] = [
    ("market_maker.pubkey", lambda p: replace(p, market_maker=b"\x02" + bytes(32))),
    ("players", lambda p: replace(p, players=())),
    ("players[1].pubkey", lambda p: with_player(p, 1, pubkey=p.players[1].pubkey[1:])),
    ("players[1].ticket_hash", lambda p: with_player(p, 1, ticket_hash=b"short")),
    ("players[2].payout_hash", lambda p: with_player(p, 2, payout_hash=b"")),
    ("players[2].ticket_hash", lambda p: with_player(p, 2, ticket_hash=p.players[0].ticket_hash)),
    ("event.locking_points[2]", bad_point),
    ("event.expiry", lambda p: replace(p, event=EventLock(p.event.locking_points, 1 << 32))),
    ("outcome_payouts.exp", lambda p: replace(p, event=EventLock(p.event.locking_points, None))),
    ("outcome_payouts", lambda p: replace(p, outcome_payouts={})),
    ("outcome_payouts.att7", lambda p: with_payouts(p, att7={0: 1})),
    ("outcome_payouts.att1", lambda p: with_payouts(p, att1={})),
    ("outcome_payouts.att1", lambda p: with_payouts(p, att1={0: 1, 3: 1})),
    ("outcome_payouts.att1", lambda p: with_payouts(p, att1={0: 1, 2: 0})),
    ("outcome_payouts.att1", lambda p: with_payouts(p, att1={0: 1 << 60, 2: 1})),
    ("fee_rate", lambda p: replace(p, fee_rate=0)),
    ("funding_value", lambda p: replace(p, funding_value=0)),
    ("funding_value", lambda p: replace(p, funding_value=21_000_000 * 10**8 + 1)),
    ("relative_locktime_block_delta", lambda p: replace(p, relative_locktime_block_delta=0)),
    ("relative_locktime_block_delta", lambda p: replace(p, relative_locktime_block_delta=32768)),
    ("relative_locktime_block_delta", lambda p: replace(p, relative_locktime_block_delta=True)),
]


@pytest.mark.parametrize(("field", "change"), BROKEN, ids=lambda value: str(value)[:40])
def test_broken_rules_are_named(field: str, change: Callable[[Any], Any]) -> None:
    base = parameters()
    base.validate()
    with pytest.raises(ContractError) as caught:
        change(base).validate()
    assert caught.value.field == field
    with pytest.raises(ContractError):
        TicketedDLC(change(base), ("00" * 32, 0))


@pytest.mark.parametrize("index", ["att01", "att", "att-1", "attx", "exp0", "", "ATT1", "att99999999999"])
def test_outcome_keys_have_one_form(index: str) -> None:
    with pytest.raises(UnknownOutcome):
        outcome_index(index)
    with pytest.raises(InvalidParameters):
        OutcomePayouts({index: {0: 1}})


def test_keys() -> None:
    assert parse_key("att3") == ("att3", None)
    assert parse_key("exp:p10") == ("exp", 10)
    for bad in ("att3:", "att3:1", "att3:p", "att3:p01", "att3:p1:p1", "p1"):
        with pytest.raises(UnknownOutcome):
            parse_key(bad)


def test_payouts_read_like_a_dict() -> None:
    given = {"att0": {1: 2, 0: 1}, "att5": {0: 3}, "exp": {0: 1, 1: 1}, "att10": {1: 4}}
    payouts = OutcomePayouts(given)
    assert list(payouts) == ["att0", "att5", "att10", "exp"]
    assert dict(payouts) == given
    assert payouts["att0"] == {0: 1, 1: 2}
    assert list(payouts["att0"]) == [0, 1]
    assert payouts.row_of("att10") == 2
    assert "att6" not in payouts
    assert payouts == OutcomePayouts(dict(reversed(given.items())))
    assert payouts != OutcomePayouts({**given, "att5": {0: 4}})
    with pytest.raises(UnknownOutcome):
        payouts.row_of("att6")
    with pytest.raises(UnknownOutcome):
        OutcomePayouts({"att0": {0: 1}}).row_of("exp")
    with pytest.raises(InvalidParameters):
        OutcomePayouts({"att0": {0: 1 << 64}})
    with pytest.raises(InvalidParameters):
        OutcomePayouts({"att0": {-1: 1}})


def test_point_lists_find_only_whole_points() -> None:
    a, b = public_key(secret("a")), public_key(secret("b"))
    points = PointList([a, b])
    assert points.find(b) == 1
    assert points.find(public_key(secret("c"))) is None
    straddling = points.packed[10:43]
    assert straddling in points.packed
    assert points.find(straddling) is None
    assert points[-1] == b
    assert points[1:] == [b]
    with pytest.raises(IndexError):
        points[2]
    with pytest.raises(InvalidPoint):
        PointList([a[:-1]])


def test_json_round_trip() -> None:
    base = parameters()
    text = base.to_json()
    assert ContractParameters.from_json(text) == base
    assert ContractParameters.from_json(text.encode()) == base
    assert ContractParameters.from_json(json.loads(text)) == base


def edited(path: list[Any], value: Any) -> dict[str, Any]:
    data = parameters().to_dict()
    at: Any = data
    for step in path[:-1]:
        at = at[step]
    if value is ...:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (["market_maker"], ..., "market_maker"),
        (["market_maker", "pubkey"], "zz" * 33, "market_maker.pubkey"),
        (["market_maker", "pubkey"], "02 " * 22, "market_maker.pubkey"),
        (["players"], {}, "players"),
        (["players", 1], "x", "players[1].pubkey"),
        (["players", 1, "ticket_hash"], "00" * 31, "players[1].ticket_hash"),
        (["players", 0, "payout_hash"], None, "players[0].payout_hash"),
        (["event"], [], "event"),
        (["event", "expiry"], "soon", "event.expiry"),
        (["event", "expiry"], -1, "event.expiry"),
        (["event", "locking_points", 1], "03", "event.locking_points[1]"),
        (["outcome_payouts"], [], "outcome_payouts"),
        (["outcome_payouts", "att0"], [1], "outcome_payouts.att0"),
        (["outcome_payouts", "att0", "0"], 1.5, "outcome_payouts.att0"),
        (["outcome_payouts", "att0", "0"], True, "outcome_payouts.att0"),
        (["outcome_payouts", "att0", "+1"], 1, "outcome_payouts.att0"),
        (["outcome_payouts", "att0", "٣"], 1, "outcome_payouts.att0"),
        (["outcome_payouts", "att00"], {"0": 1}, "outcome_payouts"),
        (["fee_rate"], "1", "fee_rate"),
        (["funding_value"], 1e6, "funding_value"),
        (["relative_locktime_block_delta"], ..., "relative_locktime_block_delta"),
    ],
)
def test_malformed_json_is_named(path: list[Any], value: Any, field: str) -> None:
    with pytest.raises(InvalidParameters) as caught:
        ContractParameters.from_json(json.dumps(edited(path, value)))
    assert caught.value.field == field


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "[" * 100_000, '{"fee_rate":1,"fee_rate":2}', b"\xff"]
)
def test_what_is_not_json_is_refused(text: Any) -> None:
    with pytest.raises(InvalidParameters):
        ContractParameters.from_json(text)


@pytest.mark.parametrize(("entries", "places", "outcomes"), [(5, 3, 61), (20, 3, 6841), (25, 3, 13801)])
def test_number_of_outcomes(entries: int, places: int, outcomes: int) -> None:
    assert rankings.count(entries, places) == outcomes
    assert sum(1 for _ in rankings.rankings(entries, places)) == outcomes


@pytest.mark.parametrize(("entries", "places"), [(2, 1), (4, 1), (3, 2), (4, 3), (6, 3), (5, 4), (6, 5)])
def test_rankings_are_lexicographic_and_can_be_numbered(entries: int, places: int) -> None:
    everything = list(rankings.rankings(entries, places))
    assert everything[:-1] == sorted(set(everything[:-1]))
    assert everything[-1] == tuple(range(entries))
    assert len({outcome_message(ranking) for ranking in everything}) == len(everything)
    for index, ranking in enumerate(everything):
        assert rankings.ranking_at(entries, places, index) == ranking
        assert rankings.index_of(entries, places, ranking) == index
    sets = list(rankings.winner_sets(entries, places))
    assert set(sets) == {tuple(sorted(ranking)) for ranking in everything}
    for bad in (-1, len(everything)):
        with pytest.raises(InvalidParameters):
            rankings.ranking_at(entries, places, bad)


@pytest.mark.parametrize("ranking", [(0,), (0, 0), (0, 9), (0, 1, 2, 3)])
def test_what_is_no_ranking_has_no_number(ranking: tuple[int, ...]) -> None:
    with pytest.raises(InvalidParameters):
        rankings.index_of(5, 2, ranking)


@pytest.mark.parametrize(("entries", "places"), [(3, 3), (2, 3), (9, 0), (9, 6), (1, 1), (0, 0)])
def test_competitions_that_would_be_ambiguous_or_too_wide_are_refused(entries: int, places: int) -> None:
    for call in (rankings.count, rankings.rankings, rankings.winner_sets):
        with pytest.raises(InvalidParameters):
            call(entries, places)


def test_prize_weights_are_percents() -> None:
    assert set(PRIZE_WEIGHTS) == {1, 2, 3, 4, 5}
    for places, weights in PRIZE_WEIGHTS.items():
        assert len(weights) == places
        assert sum(weights) == 100
        assert list(weights) == sorted(weights, reverse=True)
    with pytest.raises(InvalidParameters):
        prize_weights(6)


def test_messages_are_eight_byte_indices() -> None:
    assert outcome_message((1, 256)).hex() == "00000000000000010000000000000100"
    with pytest.raises(InvalidParameters):
        outcome_message((-1,))


def test_locking_points_need_real_keys() -> None:
    key = public_key(secret("oracle"))
    for bad in (b"", bytes(32), b"\x05" + key[1:]):
        with pytest.raises(InvalidPoint) as caught:
            locking_point(key, bad, b"m")
        assert caught.value.field == "nonce_point"
        with pytest.raises(InvalidPoint) as caught:
            locking_point(bad, key, b"m")
        assert caught.value.field == "oracle_key"


def test_a_competition_pays_by_place_and_refunds_in_equal_parts() -> None:
    contract = competition(5, 3)
    payouts = contract.parameters.outcome_payouts
    assert payouts["att0"] == {0: 45, 1: 35, 2: 20}
    index = rankings.index_of(5, 3, (4, 0, 2))
    assert payouts[f"att{index}"] == {4: 45, 0: 35, 2: 20}
    everybody = dict.fromkeys(range(5), 1)
    assert payouts["att60"] == payouts["exp"] == everybody
    dlc = contract.dlc
    assert dlc.rank(f"att{index}") == (4, 0, 2)
    assert len(set(dlc.payouts("exp").values())) == 1
    assert dlc.payouts("exp") == dlc.payouts("att60")
    assert competition(5, 3, expiry=None).dlc.outcome_count == 61


def test_competition_parameters_need_a_point_for_each_outcome() -> None:
    base = parameters()
    with pytest.raises(InvalidParameters) as caught:
        competition_parameters(
            base.market_maker,
            base.players,
            2,
            EventLock(list(base.event.locking_points)[:-1], None),
            base.fee_rate,
            base.funding_value,
            base.relative_locktime_block_delta,
        )
    assert caught.value.field == "event.locking_points"


def test_the_funding_output_does_not_need_the_outpoint() -> None:
    base = parameters()
    dlc = TicketedDLC(base, ("cd" * 32, 3))
    assert funding_output(base) == dlc.funding_output()
    assert funding_script_pubkey(base) == dlc.funding_script_pubkey
    assert dlc.funding_output().value_sats == base.funding_value


@pytest.mark.parametrize("outpoint", [("00", 0), ("zz" * 32, 0), ("AB" * 32, 0), ("00" * 32, -1)])
def test_malformed_outpoints_are_refused(outpoint: tuple[str, int]) -> None:
    with pytest.raises(InvalidParameters):
        TicketedDLC(parameters(), outpoint)


def test_players_may_share_a_key_but_not_a_ticket() -> None:
    base = parameters()
    first = base.players[0]
    same_key = with_player(base, 1, pubkey=first.pubkey)
    dlc = TicketedDLC(same_key, ("00" * 32, 0))
    assert len(dlc.funding_key_context.pubkeys) == 4
    assert Player(first.pubkey, first.ticket_hash, first.payout_hash) == first
