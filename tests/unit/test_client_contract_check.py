"""A coordinator that lies to a player about anything is found out before the player signs."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from coincurve import PrivateKey

from coordinator.contract.dlc import TicketedDLC
from coordinator.contract.funding import FundingTransaction
from coordinator.contract.network import Network
from coordinator.contract.psbt import psbt_of
from coordinator.contract.secp import public_key
from coordinator.contract.tx import Input, Transaction
from coordinator.contract.utxo import OutPoint, Output
from coordinator_client import bolt11
from coordinator_client.agreement import Agreement, PlayerSecrets
from coordinator_client.contract_check import (
    check_contract,
    check_funding,
    check_htlc,
    check_invoice,
    own_escrow,
)
from coordinator_client.errors import CheckFailed, ContractMismatch, InvoiceMismatch, UnsafeHtlc
from coordinator_client.proto.coordinator.v1 import CompetitionTerms, GetContractResponse
from support.agreed import ENTRY_FEE_SATS, ME, P2TR, PREDICTED, TERMS, TICKET_IDS, Agreed, agreed, hash_of
from support.contract import EXPIRY, secret

OTHER_KEY = public_key(secret("somebody else")).hex()


@pytest.fixture(scope="module")
def deal() -> Agreed:
    return agreed()


def mismatch(call: Callable[[], object]) -> str:
    with pytest.raises(ContractMismatch) as found:
        call()
    assert str(found.value).startswith(found.value.what)
    return found.value.what


def check(deal: Agreed, contract: GetContractResponse, **changes: Any) -> Any:
    values = {
        "agreement": deal.agreement,
        "entry": deal.entry,
        "announcement": deal.announcement,
        "predicted": PREDICTED,
    } | changes
    return check_contract(contract, **values)


# What is right


def test_an_honest_contract_is_rebuilt_and_signed(deal: Agreed) -> None:
    coin = own_escrow(deal.response, deal.agreement, deal.entry)
    assert coin == deal.funding.escrows[ME]
    dlc = check(deal, deal.shown())
    assert dlc.parameters == deal.competition.parameters
    transaction, index = check_funding(deal.response, dlc, coin)
    assert index == ME
    signature = coin.escrow.sign(
        deal.secrets.ephemeral_secret, coin.escrow.sighash(transaction, index, coin.value_sats)
    )
    assert deal.funding.verify_player_signature(ME, signature)


def test_what_the_oracle_does_not_show_is_not_compared(deal: Agreed) -> None:
    hidden = replace(deal.announcement, entries=dict.fromkeys(TICKET_IDS))
    assert check(deal, deal.shown(), announcement=hidden)
    assert check(deal, deal.shown(), announcement=None)
    assert check(deal, deal.shown(), predicted=frozenset())


def test_what_is_kept_reads_back(deal: Agreed) -> None:
    plain = json.loads(json.dumps(deal.secrets.to_json()))
    assert PlayerSecrets.from_json(plain) == deal.secrets
    assert Agreement.from_json(plain["agreement"]) == deal.agreement
    fresh = PlayerSecrets.generate()
    assert PlayerSecrets.from_json(json.loads(json.dumps(fresh.to_json()))) == fresh
    for name in ("nostr_secret", "ephemeral_secret", "payout_preimage"):
        assert getattr(deal.secrets, name).hex() not in repr(deal.secrets)
        assert repr(getattr(deal.secrets, name)) not in repr(deal.secrets)


# Its own line and escrow


@pytest.mark.parametrize(
    ("field", "value"),
    [("ephemeral_pubkey", OTHER_KEY), ("ticket_hash", hash_of("x")), ("payout_hash", hash_of("y"))],
)
def test_another_key_or_hash_for_this_player(deal: Agreed, field: str, value: str) -> None:
    contract = deal.shown()
    setattr(contract.players[ME], field, value)
    for call in (
        lambda: own_escrow(contract, deal.agreement, deal.entry),
        lambda: check(deal, contract),
    ):
        assert mismatch(call) == f"players[{ME}].{field}"


def test_a_contract_without_this_player(deal: Agreed) -> None:
    contract = deal.shown()
    del contract.players[ME]
    assert mismatch(lambda: own_escrow(contract, deal.agreement, deal.entry)) == "players"
    assert mismatch(lambda: check(deal, contract)) == "players"


@pytest.mark.parametrize("change", ["less", "other key", "other output", "no transaction", "not segwit"])
def test_an_escrow_that_is_not_the_players_whole_price(deal: Agreed, change: str) -> None:
    contract = deal.shown()
    transaction = deal.escrow_transaction
    match change:
        case "less":
            outputs = list(transaction.outputs)
            outputs[ME] = replace(outputs[ME], value_sats=ENTRY_FEE_SATS - 1)
            contract.escrow_transaction_hex = replace(transaction, outputs=tuple(outputs)).serialize().hex()
        case "other key":
            contract.players[ME].escrow_coordinator_pubkey = OTHER_KEY
        case "other output":
            contract.players[ME].escrow_vout = 0
        case "no transaction":
            contract.escrow_transaction_hex = "00"
        case "not segwit":
            inputs = (replace(transaction.inputs[0], script_sig=b"\x51"),)
            contract.escrow_transaction_hex = replace(transaction, inputs=inputs).serialize().hex()
    assert mismatch(lambda: own_escrow(contract, deal.agreement, deal.entry)) == "escrow_transaction_hex"


# The contract


def altered(deal: Agreed, change: Callable[[dict[str, Any]], None]) -> GetContractResponse:
    contract = deal.shown()
    parameters = json.loads(contract.parameters_json)
    change(parameters)
    contract.parameters_json = json.dumps(parameters)
    return contract


PARAMETER_LIES: list[tuple[str, Callable[[dict[str, Any]], None]]] = [
    ("market_maker.pubkey", lambda p: p["market_maker"].update(pubkey=OTHER_KEY)),
    ("players", lambda p: p["players"].pop()),
    ("players[1].pubkey", lambda p: p["players"][1].update(pubkey=OTHER_KEY)),
    ("players[1].ticket_hash", lambda p: p["players"][1].update(ticket_hash=hash_of("t"))),
    ("players[2].payout_hash", lambda p: p["players"][2].update(payout_hash=hash_of("p"))),
    ("event.expiry", lambda p: p["event"].update(expiry=EXPIRY + 1)),
    ("event.expiry", lambda p: p["event"].update(expiry=None)),
    ("event.locking_points[4]", lambda p: p["event"]["locking_points"].__setitem__(4, OTHER_KEY)),
    ("event.locking_points[7]", lambda p: p["event"]["locking_points"].append(OTHER_KEY)),
    ("outcome_payouts.att2", lambda p: p["outcome_payouts"].update(att2={"0": 60, "1": 40})),
    ("outcome_payouts.att6", lambda p: p["outcome_payouts"].update(att6={"0": 1})),
    ("outcome_payouts.exp", lambda p: p["outcome_payouts"].pop("exp")),
    ("fee_rate", lambda p: p.update(fee_rate=501)),
    ("funding_value", lambda p: p.update(funding_value=p["funding_value"] - 1)),
    ("relative_locktime_block_delta", lambda p: p.update(relative_locktime_block_delta=145)),
    ("parameters_json", lambda p: p.pop("players")),
]


@pytest.mark.parametrize(("what", "change"), PARAMETER_LIES, ids=[what for what, _ in PARAMETER_LIES])
def test_parameters_that_were_not_agreed(
    deal: Agreed, what: str, change: Callable[[dict[str, Any]], None]
) -> None:
    assert mismatch(lambda: check(deal, altered(deal, change))) == what


@pytest.mark.parametrize(
    ("terms", "what"),
    [
        ({"entry_fee_sats": 60_000}, "funding_value"),
        ({"coordinator_fee_percent": 5}, "funding_value"),
        ({"total_competition_pool_sats": 200_000}, "funding_value"),
        ({"number_of_places_win": 1}, "event.locking_points[0]"),
        ({"relative_locktime_blocks": 100}, "relative_locktime_block_delta"),
        ({"fee_rate_sats_per_vb": 3}, "fee_rate"),
        ({"total_allowed_entries": 2, "min_entries": 2}, "players"),
        ({"total_allowed_entries": 9, "min_entries": 4}, "players"),
        ({"signing_at": datetime.fromtimestamp(EXPIRY + 1, UTC)}, "event.expiry"),
    ],
)
def test_terms_that_changed_after_the_ticket(deal: Agreed, terms: dict[str, Any], what: str) -> None:
    sold = CompetitionTerms().parse(bytes(TERMS))
    for name, value in terms.items():
        setattr(sold, name, value)
    agreement = replace(deal.agreement, terms=sold)
    assert mismatch(lambda: check(deal, deal.shown(), agreement=agreement)) == what


def test_players_in_another_order_than_the_oracles(deal: Agreed) -> None:
    """Consistent in itself, but the outcome that pays this player would be another's."""
    contract = deal.shown()
    contract.players.reverse()
    for index, player in enumerate(contract.players):
        player.player_index = index
    assert mismatch(lambda: check(deal, contract)) == "players"
    contract = deal.shown()
    contract.players[0].player_index = 2
    assert mismatch(lambda: check(deal, contract)) == "players[0].player_index"
    contract = deal.shown()
    contract.players[2].ticket_id = TICKET_IDS[ME]
    assert mismatch(lambda: check(deal, contract)) == "players"


def test_an_oracle_with_other_entries_predictions_or_keys(deal: Agreed) -> None:
    missing = dict(list(deal.announcement.entries.items())[:-1])
    other = deal.announcement.entries | {TICKET_IDS[ME]: frozenset({("KORD", "temp_high", "under")})}
    for changes, what in (
        ({"entries": missing}, "players"),
        ({"entries": other}, "expected_observations"),
        ({"oracle_pubkey": bytes.fromhex(OTHER_KEY)[1:]}, "event.locking_points[0]"),
        ({"nonce_point": bytes.fromhex(OTHER_KEY)}, "event.locking_points[0]"),
        ({"nonce_point": bytes(33)}, "event"),
        ({"expiry": EXPIRY + 5}, "event.expiry"),
        ({"expiry": None}, "event.expiry"),
    ):
        announcement = replace(deal.announcement, **changes)  # type: ignore[arg-type]
        assert mismatch(lambda a=announcement: check(deal, deal.shown(), announcement=a)) == what


@pytest.mark.parametrize("key", ["att0", "att5", "exp", "att0:p1", "exp:p2"])
@pytest.mark.parametrize("how", ["missing", "wrong", "another's"])
def test_every_signature_counts(deal: Agreed, key: str, how: str) -> None:
    contract = deal.shown()
    item = next(item for item in contract.signatures if item.key == key)
    if how == "missing":
        contract.signatures.remove(item)
    elif how == "wrong":
        item.signature = item.signature[:-1] + bytes([item.signature[-1] ^ 1])
    else:
        item.signature = next(
            other.signature
            for other in contract.signatures
            if other.key != key and len(other.signature) == len(item.signature)
        )
    assert mismatch(lambda: check(deal, contract)) == f"signatures[{key}]"


def test_signatures_for_another_outpoint(deal: Agreed) -> None:
    contract = deal.shown()
    contract.funding_outpoint = f"{'ab' * 32}:0"
    assert mismatch(lambda: check(deal, contract)).startswith("signatures[")
    contract.funding_outpoint = "nowhere"
    assert mismatch(lambda: check(deal, contract)) == "funding_outpoint"


# The funding transaction


def funding_lies(deal: Agreed) -> dict[str, Transaction]:
    parsed = Transaction.parse(deal.funding.unsigned_transaction)
    paid = parsed.outputs[0]
    stranger = OutPoint("99" * 32, 0)
    without_me = tuple(i for n, i in enumerate(parsed.inputs) if n != ME)
    return {
        "less": replace(parsed, outputs=(replace(paid, value_sats=paid.value_sats - 1), *parsed.outputs[1:])),
        "to another": replace(parsed, outputs=(Output(P2TR, paid.value_sats), *parsed.outputs[1:])),
        "nothing": replace(parsed, outputs=()),
        "late": replace(parsed, lock_time=EXPIRY),
        "without": replace(parsed, inputs=(*without_me, Input(stranger, 0xFFFFFFFE))),
    }


@pytest.mark.parametrize("name", ["less", "to another", "nothing", "late", "without"])
def test_a_funding_transaction_that_does_not_pay_the_contract(deal: Agreed, name: str) -> None:
    lie = funding_lies(deal)[name]
    contract = deal.shown()
    # Consistent with its own outpoint: only what it does is wrong.
    dlc = TicketedDLC(deal.competition.parameters, (lie.txid, 0))
    psbt = psbt_of(lie, [Output(P2TR, 50_000)] * len(lie.inputs))
    contract.funding_psbt = str(psbt.to_string())  # type: ignore[no-untyped-call]
    coin = deal.funding.escrows[ME]
    assert mismatch(lambda: check_funding(contract, dlc, coin)) == "funding_psbt"


def test_another_transaction_than_the_contracts(deal: Agreed) -> None:
    dlc = check(deal, deal.shown())
    coin = deal.funding.escrows[ME]
    other = FundingTransaction.build(
        deal.funding.escrows,
        deal.funding.coins,
        funding_script=dlc.funding_script_pubkey,
        funding_value_sats=dlc.parameters.funding_value,
        change_script=P2TR,
        fee_rate_sat_vb=3,
    )
    contract = deal.shown()
    contract.funding_psbt = str(other.psbt().to_string())  # type: ignore[no-untyped-call]
    assert mismatch(lambda: check_funding(contract, dlc, coin)) == "funding_psbt"
    contract.funding_psbt = "cHNidP8="
    assert mismatch(lambda: check_funding(contract, dlc, coin)) == "funding_psbt"


# Paying


def invoice(deal: Agreed, **changes: Any) -> str:
    values: dict[str, Any] = {
        "network": "bcrt",
        "payment_hash": deal.agreement.ticket_hash,
        "created_at": 1_790_000_000,
        "amount_msats": ENTRY_FEE_SATS * 1000,
        "description": "Ticket",
    } | changes
    return bolt11.encode(PrivateKey(secret("node")), **values)


def test_the_tickets_invoice(deal: Agreed) -> None:
    assert check_invoice(invoice(deal), deal.agreement).payment_hash == deal.agreement.ticket_hash
    for changes, problem in (
        ({"payment_hash": bytes(32)}, "payment hash"),
        ({"amount_msats": ENTRY_FEE_SATS * 1000 + 1}, "50000 sats"),
        ({"amount_msats": None}, "50000 sats"),
        ({"network": "bc"}, "regtest"),
    ):
        with pytest.raises(InvoiceMismatch, match=problem):
            check_invoice(invoice(deal, **changes), deal.agreement)
    with pytest.raises(InvoiceMismatch, match="cannot be read"):
        check_invoice("lnbcrt1nonsense", deal.agreement)
    on_mainnet = replace(deal.agreement, network=Network.MAINNET)
    with pytest.raises(InvoiceMismatch, match="mainnet"):
        check_invoice(invoice(deal), on_mainnet)


def test_a_payment_must_run_out_before_the_escrows_protection_does() -> None:
    for release_blocks in (288, 455, 2163):
        check_htlc(release_blocks - 144, release_blocks)
        with pytest.raises(UnsafeHtlc, match=str(release_blocks - 143)):
            check_htlc(release_blocks - 143, release_blocks)
    assert issubclass(UnsafeHtlc, CheckFailed)
