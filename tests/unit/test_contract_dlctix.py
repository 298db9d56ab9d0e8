"""The contract engine gives the same bytes as the Rust crate dlctix 0.0.7."""

import hashlib
from typing import Any

import pytest

from coordinator.contract import adaptor, musig2, schnorr, spends
from coordinator.contract.attestation import (
    attestation_secret,
    locking_point,
    locking_points,
    outcome_message,
)
from coordinator.contract.dlc import ContractSignatures, TicketedDLC, funding_output
from coordinator.contract.errors import ContractError, InvalidSignature
from coordinator.contract.parameters import ContractParameters, EventLock, Player, competition_parameters
from coordinator.contract.rankings import rankings
from coordinator.contract.secp import public_key, sha256
from coordinator.contract.sizes import OVERHEAD_WEIGHT, P2TR_KEY_INPUT_WEIGHT
from coordinator.contract.taproot import TaprootOutput
from coordinator.contract.tx import SighashCache, Transaction
from support.dlctix import SETS, contract, outpoint, signatures, vectors

unhex = bytes.fromhex
PARAMETER_SETS = pytest.mark.parametrize("name", SETS)


def test_there_are_vectors() -> None:
    assert len(SETS) >= 15


@PARAMETER_SETS
def test_parameters_survive_json(name: str) -> None:
    params = vectors(name)["params"]
    parameters = ContractParameters.from_json(params)
    parameters.validate()
    assert parameters.to_dict() == params
    assert list(parameters.to_dict()["outcome_payouts"]) == list(params["outcome_payouts"])
    assert ContractParameters.from_json(parameters.to_json()) == parameters


@PARAMETER_SETS
def test_oracle(name: str) -> None:
    data = vectors(name)
    secrets, oracle, points = data["secrets"], data["oracle"], data["params"]["event"]["locking_points"]
    messages = [unhex(message) for message in data["messages"]]
    assert locking_points(unhex(oracle["pubkey"]), unhex(oracle["nonce"]), messages) == [*map(unhex, points)]
    key, nonce = unhex(secrets["oracle_seckey"]), unhex(secrets["oracle_secnonce"])
    for i, (message, attestation) in enumerate(zip(messages, data["attestations"], strict=True)):
        secret = attestation_secret(key, nonce, message)
        assert secret == unhex(attestation)
        expected = f"att{i}" if f"att{i}" in data["params"]["outcome_payouts"] else None
        assert contract(name).outcome_for_attestation(secret) == expected


def test_oracle_of_any_parity() -> None:
    cases = vectors("oracle")["cases"]
    parities = set()
    for case in cases:
        key, nonce, message = (unhex(case[k]) for k in ("oracle_pubkey", "oracle_nonce", "message"))
        parities.add((key[0], nonce[0]))
        assert locking_point(key, nonce, message) == unhex(case["locking_point"])
        assert locking_point(key[1:], nonce[1:], message) == unhex(case["locking_point"])
        secret = attestation_secret(unhex(case["oracle_seckey"]), unhex(case["oracle_secnonce"]), message)
        assert secret == unhex(case["attestation"])
        assert public_key(secret) == unhex(case["locking_point"])
    assert len(parities) == 4


@PARAMETER_SETS
def test_funding(name: str) -> None:
    funding, dlc = vectors(name)["funding"], contract(name)
    assert [key.hex() for key in dlc.funding_key_context.pubkeys] == funding["group"]["pubkeys"]
    assert dlc.aggregate_key(None).hex() == funding["group"]["aggregate_pubkey"]
    output = funding_output(dlc.parameters)
    assert output == dlc.funding_output()
    assert (output.script_pubkey.hex(), output.value_sats) == (
        funding["script_pubkey"],
        funding["value_sats"],
    )


def leaf(output: TaprootOutput, place: int) -> dict[str, str]:
    return {"script": output.scripts[place].hex(), "control_block": output.control_block(place).hex()}


@PARAMETER_SETS
def test_outcomes(name: str) -> None:
    data, dlc = vectors(name), contract(name)
    assert dlc.outcome_count == data["outcome_count"]
    for given in data["outcomes"]:
        key = given["outcome"]
        winners, tx = dlc.winners(key), dlc.outcome_tx(key)
        assert tx.serialize().hex() == given["tx"]
        assert tx.txid == given["txid"] == dlc.outcome_outpoint(key).txid
        assert dlc.outcome_sighash(key).hex() == given["sighash"]
        assert SighashCache(tx, [dlc.funding_output()]).key_path(0) == unhex(given["sighash"])
        output = dlc.outcome_taproot(winners)
        assert output.script_pubkey.hex() == given["script_pubkey"]
        assert output.tree.root.hex() == given["merkle_root"]
        assert dlc.aggregate_key(winners).hex() == given["group_pubkey"]
        assert dlc.outcome_value == given["value_sats"]
        assert dlc.parameters.funding_value - dlc.outcome_value == given["fee_sats"]
        assert given["weight"] == OVERHEAD_WEIGHT + P2TR_KEY_INPUT_WEIGHT + 172
        assert leaf(output, len(winners)) == given["reclaim_leaf"]
        for place, (player, win) in enumerate(zip(winners, given["wins"], strict=True)):
            assert win["win_condition"] == f"{key}:p{player}"
            assert leaf(output, place) == {k: win[k] for k in ("script", "control_block")}
            assert dlc.split_sighash(key, player).hex() == win["sighash"]
            assert dlc.signing_job(win["win_condition"]).message.hex() == win["sighash"]


@PARAMETER_SETS
def test_split_transactions(name: str) -> None:
    data, dlc = vectors(name), contract(name)
    for given in data["outcomes"]:
        key, split = given["outcome"], given["split"]
        tx = dlc.split_tx(key)
        assert tx.serialize().hex() == split["tx"]
        assert tx.txid == split["txid"]
        assert dlc.payouts(key) == {out["player"]: out["value_sats"] for out in split["outputs"]}
        taproot = dlc.outcome_taproot(dlc.winners(key))
        sighashes = SighashCache(tx, [dlc.outcome_output(key)])
        for out, win, leaf_hash in zip(
            split["outputs"], given["wins"], taproot.tree.leaf_hashes[:-1], strict=True
        ):
            assert dlc.split_output(key, out["player"]).script_pubkey.hex() == out["script_pubkey"]
            assert sighashes.script_path(0, leaf_hash).hex() == win["sighash"]
        deepest = max(range(len(taproot.scripts) - 1), key=lambda i, t=taproot: len(t.tree.paths[i]))
        full = tx.with_witness(
            0, [bytes(64), bytes(32), taproot.scripts[deepest], taproot.control_block(deepest)]
        )
        assert full.weight == split["weight"]
        total = split["fee_sats"]
        assert total == -(-dlc.parameters.fee_rate * full.weight // 1000)


@PARAMETER_SETS
def test_split_outputs(name: str) -> None:
    dlc = contract(name)
    for player, given in enumerate(vectors(name)["split_contracts"]):
        output = dlc.split_taproot(player)
        assert given["player"] == player
        assert output.script_pubkey.hex() == given["script_pubkey"]
        assert dlc.split_key_context(player).point.hex() == given["group_pubkey"]
        assert output.tree.root.hex() == given["merkle_root"]
        for place, path in enumerate(("sellback_leaf", "win_leaf", "reclaim_leaf")):
            assert leaf(output, place) == given[path]


@PARAMETER_SETS
def test_signatures_verify(name: str) -> None:
    dlc, given = contract(name), signatures(vectors(name))
    dlc.verify_signatures(given)
    for key, signature in [*given.outcome.items()][:3] + [*given.split.items()][-3:]:
        dlc.verify_signature(key, signature)


def test_a_misplaced_signature_is_named() -> None:
    dlc, given = contract("n5w3"), signatures(vectors("n5w3"))
    swapped = dict(given.split)
    swapped["att7:p0"], swapped["att6:p0"] = given.split["att6:p0"], given.split["att7:p0"]
    assert swapped["att7:p0"] != given.split["att7:p0"]
    with pytest.raises(InvalidSignature) as caught:
        dlc.verify_signatures(ContractSignatures(given.outcome, swapped))
    assert caught.value.key == "att6:p0"


def digest_lines(dlc: TicketedDLC) -> list[str]:
    lines = []
    for job in dlc.signing_jobs():
        line = job.message.hex()
        if ":" not in job.key:
            split_txid = dlc.split_tx(job.key).txid
            line = f"{dlc.outcome_outpoint(job.key).txid} {line} {split_txid}"
        lines.append(f"{job.key} {line}\n")
    return lines


@PARAMETER_SETS
def test_digest_of_every_transaction(name: str) -> None:
    lines = digest_lines(contract(name))
    assert hashlib.sha256("".join(lines).encode()).hexdigest() == vectors(name)["digest"]


@pytest.mark.parametrize("case", vectors("scale")["cases"], ids=lambda case: case["name"])
def test_digest_at_scale(case: Any) -> None:
    secrets = case["secrets"]
    players = [
        Player(public_key(unhex(key)), sha256(unhex(ticket)), sha256(unhex(payout)))
        for key, ticket, payout in zip(
            secrets["player_seckeys"], secrets["ticket_preimages"], secrets["payout_preimages"], strict=True
        )
    ]
    points = locking_points(
        public_key(unhex(secrets["oracle_seckey"])),
        public_key(unhex(secrets["oracle_secnonce"])),
        map(outcome_message, rankings(case["entries"], case["places"])),
    )
    assert sha256(points.packed).hex() == case["locking_points_sha256"]
    parameters = competition_parameters(
        public_key(unhex(secrets["market_maker_seckey"])),
        players,
        case["places"],
        EventLock(points, case["expiry"]),
        case["fee_rate"],
        case["funding_value"],
        case["relative_locktime_block_delta"],
    )
    dlc = TicketedDLC(parameters, outpoint(case["funding_outpoint"]))
    assert dlc.funding_script_pubkey.hex() == case["funding_script_pubkey"]
    assert dlc.outcome_count == case["outcome_count"]
    assert dlc.job_count == case["outcome_count"] + case["win_condition_count"]
    lines = digest_lines(dlc)
    text = "".join(lines)
    assert text.startswith(case["first_digest_lines"])
    assert text.endswith(case["last_digest_lines"])
    assert hashlib.sha256(text.encode()).hexdigest() == case["digest"]


STRICTER = {"delta whose double is not a u16", "longest delta", "no players", "no outcomes"}


@pytest.mark.parametrize("case", vectors("validation")["cases"], ids=lambda case: case["name"])
def test_validation_is_no_looser(case: Any) -> None:
    funding_outpoint = outpoint(vectors("validation")["funding_outpoint"])

    def build() -> None:
        TicketedDLC(ContractParameters.from_json(case["params"]), funding_outpoint)

    if case["valid"] and case["name"] not in STRICTER:
        build()
    else:
        with pytest.raises(ContractError):
            build()


@pytest.mark.parametrize("case", vectors("validation")["least_funding_values"], ids=str)
def test_least_funding_value(case: Any) -> None:
    data = vectors("validation")
    least = case["least_funding_value_sats"]
    params = {**data["params"], "fee_rate": case["fee_rate"]}
    funding_outpoint = outpoint(data["funding_outpoint"])
    TicketedDLC(ContractParameters.from_json({**params, "funding_value": least}), funding_outpoint)
    with pytest.raises(ContractError, match="funding_value"):
        TicketedDLC(ContractParameters.from_json({**params, "funding_value": least - 1}), funding_outpoint)


@pytest.mark.parametrize("name", ["n2w1", "n3w1_noexpiry"])
def test_musig_sessions(name: str) -> None:
    """Every nonce and partial signature of dlctix's sessions, signed again."""
    data, dlc = vectors(name), contract(name)
    secrets = data["secrets"]
    by_key = {public_key(unhex(secret)): unhex(secret) for secret in secrets["player_seckeys"]}
    by_key[dlc.parameters.market_maker] = unhex(secrets["market_maker_seckey"])
    rows = {**data["musig_session"]["by_outcome"], **data["musig_session"]["by_win_condition"]}
    assert len(rows) == dlc.job_count
    for job in dlc.signing_jobs():
        row = rows[job.key]
        keys = [unhex(key) for key in row["pubkeys"]]
        context = dlc.key_context(job.winners)
        assert context.pubkeys == tuple(keys)
        assert context.point == unhex(row["aggregate_pubkey"]) == dlc.aggregate_key(job.winners)
        assert job.message == unhex(row["message"])
        point = row.get("adaptor_point")
        assert job.adaptor_point == (None if point is None else unhex(point))
        aggnonce = musig2.nonce_agg([unhex(nonce) for nonce in row["pubnonces"]])
        assert aggnonce == unhex(row["aggnonce"])
        session = musig2.Session(aggnonce, context, job.message, job.adaptor_point)
        psigs = []
        for key, secnonce, pubnonce, expected in zip(
            keys, row["secnonces"], row["pubnonces"], row["partial_signatures"], strict=True
        ):
            psig = musig2.sign(musig2.SecNonce(unhex(secnonce) + key), by_key[key], session)
            assert psig == unhex(expected)
            assert musig2.partial_sig_verify(psig, unhex(pubnonce), key, session)
            psigs.append(psig)
        aggregate = musig2.partial_sig_agg if job.adaptor_point is None else adaptor.aggregate
        assert aggregate(psigs, session) == unhex(row["signature"])


@PARAMETER_SETS
def test_spends_sign_the_same_hashes(name: str) -> None:
    """dlctix's signed transactions: parsed, hashed and checked; outcome and split ones made again."""
    data, dlc = vectors(name), contract(name)
    given = signatures(data)
    assert data["spends"]
    for key, spend in data["spends"].items():
        signed = Transaction.parse(unhex(spend["tx"]))
        assert signed.serialize().hex() == spend["tx"]
        if key == "exp":
            signature = given.outcome[key]
        else:
            attestation = unhex(data["attestations"][int(key[3:])])
            signature = adaptor.adapt(given.outcome[key], attestation)
            assert adaptor.extract(given.outcome[key], signature, dlc.adaptor_point(key)) == attestation
        assert schnorr.verify(dlc.aggregate_key(None)[1:], dlc.outcome_sighash(key), signature)
        assert dlc.outcome_tx(key).with_witness(0, [signature]) == signed
        outcome = dlc.outcome_output(key)
        taproot = dlc.outcome_taproot(dlc.winners(key))
        check_hash(spend["reclaim"], [outcome], [taproot.tree.leaf_hashes[-1]])
        check_hash(spend["close"], [outcome], [None])
        for win_key, win in spend["wins"].items():
            player = int(win_key.partition(":p")[2])
            place = dlc.position(key, player)
            ticket = unhex(data["secrets"]["ticket_preimages"][player])
            witness = [given.split[win_key], ticket, taproot.scripts[place], taproot.control_block(place)]
            assert dlc.split_tx(key).with_witness(0, witness).serialize().hex() == win["split_tx"]
            split, leaves = dlc.split_output(key, player), dlc.split_taproot(player).tree.leaf_hashes
            for path, leaf_hash in zip(("sellback", "win", "reclaim", "close"), (*leaves, None), strict=True):
                check_hash(win[path], [split], [leaf_hash])
        winners = dlc.winners(key)
        ways = [dlc.split_taproot(p).tree.leaf_hashes for p in winners]
        kinds = [(leaves[0], None, leaves[2])[i % 3] for i, leaves in enumerate(ways)]
        check_hash(spend["sweep"], [dlc.split_output(key, player) for player in winners], kinds)
    check_hash(data["funding_close"], [dlc.funding_output()], [None])


def check_hash(spend: Any, prevouts: list[Any], leaf_hashes: list[bytes | None]) -> None:
    tx = Transaction.parse(unhex(spend["tx"]))
    assert tx.serialize().hex() == spend["tx"]
    cache = SighashCache(tx, prevouts)
    for i, leaf_hash in enumerate(leaf_hashes):
        sighash = cache.key_path(i) if leaf_hash is None else cache.script_path(i, leaf_hash)
        assert sighash.hex() == spend["sighashes"][i]


@PARAMETER_SETS
def test_spends_have_the_same_witnesses(name: str) -> None:
    """Our own transactions carry dlctix's preimages, scripts and control blocks after their signature."""
    data, dlc = vectors(name), contract(name)
    secrets = {k: v if isinstance(v, str) else [*map(unhex, v)] for k, v in data["secrets"].items()}
    maker, players = unhex(secrets["market_maker_seckey"]), secrets["player_seckeys"]
    tickets, payouts = secrets["ticket_preimages"], secrets["payout_preimages"]
    everybody = [maker, *players]
    for key, given in data["spends"].items():
        check_witness(given["reclaim"], spends.outcome_reclaim_input(dlc, key, maker))
        check_witness(given["close"], spends.outcome_close_input(dlc, key, everybody))
        for win_key, win in given["wins"].items():
            player = int(win_key.partition(":p")[2])
            own, ticket, payout = players[player], tickets[player], payouts[player]
            check_witness(win["win"], spends.win_input(dlc, key, player, own, ticket))
            check_witness(win["sellback"], spends.sellback_input(dlc, key, player, maker, payout))
            check_witness(win["reclaim"], spends.split_reclaim_input(dlc, key, player, maker))
            check_witness(win["close"], spends.split_close_input(dlc, key, player, everybody))
    check_witness(data["funding_close"], spends.funding_close_input(dlc, everybody))


def check_witness(given: Any, item: spends.SpendInput) -> None:
    theirs = Transaction.parse(unhex(given["tx"])).inputs[0]
    (ours,) = Transaction.parse(spends.spend([item], item.output.script_pubkey, 1)).inputs
    assert ours.outpoint == theirs.outpoint
    assert ours.witness[1:] == theirs.witness[1:]
    assert len(ours.witness[0]) == len(theirs.witness[0]) == 64
    if item.sequence < 1 << 16:
        assert ours.sequence == theirs.sequence
