"""Properties of contracts of any shape."""

from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.contract import spends
from coordinator.contract.dlc import TicketedDLC
from coordinator.contract.parameters import ContractParameters, EventLock, Player
from coordinator.contract.script import p2tr_script
from coordinator.contract.secp import public_key, sha256
from coordinator.contract.tx import SighashCache
from support.contract import FUNDING_OUTPOINT, competition, is_valid, secret, sign

DESTINATION = p2tr_script(public_key(secret("destination"))[1:])


@st.composite
def contracts(draw: st.DrawFn) -> ContractParameters:
    """Any outcomes, winners and weights; players may share keys, and the market maker may play."""
    count = draw(st.integers(1, 9))
    names = st.integers(0, count)  # few names: keys collide
    players = [
        Player(
            public_key(secret("key", draw(names))), sha256(secret("ticket", i)), sha256(secret("payout", i))
        )
        for i in range(count)
    ]
    outcomes = draw(st.integers(1, 6))
    expiry = draw(st.none() | st.integers(0, 0xFFFFFFFF))
    rows = st.dictionaries(st.integers(0, count - 1), st.integers(1, 50), min_size=1, max_size=count)
    keys = [f"att{i}" for i in range(outcomes)] + ([] if expiry is None else ["exp"])
    payouts = {key: draw(rows) for key in keys if draw(st.booleans()) or key == keys[0]}
    return ContractParameters(
        public_key(secret("key", draw(names))),
        tuple(players),
        EventLock([public_key(secret("point", i)) for i in range(outcomes)], expiry),
        payouts,
        draw(st.integers(250, 5000)),
        draw(st.integers(10_000_000, 100_000_000)),
        draw(st.integers(1, 32767)),
    )


@given(contracts())
@settings(max_examples=40, deadline=None)
def test_fast_sighashes_are_those_of_the_transactions(parameters: ContractParameters) -> None:
    dlc = TicketedDLC(parameters, FUNDING_OUTPOINT)
    assert ContractParameters.from_json(parameters.to_json()) == parameters
    jobs = {job.key: job for job in dlc.signing_jobs()}
    for outcome in dlc.outcomes():
        tx, split = dlc.outcome_tx(outcome), dlc.split_tx(outcome)
        assert jobs.pop(outcome).message == SighashCache(tx, [dlc.funding_output()]).key_path(0)
        assert dlc.outcome_outpoint(outcome).txid == tx.txid
        tree = dlc.outcome_taproot(dlc.winners(outcome)).tree
        cache = SighashCache(split, [dlc.outcome_output(outcome)])
        for player, leaf_hash in zip(dlc.winners(outcome), tree.leaf_hashes, strict=False):
            assert jobs.pop(f"{outcome}:p{player}").message == cache.script_path(0, leaf_hash)
        assert split.outputs[0].value_sats > 330
        assert sum(out.value_sats for out in split.outputs) < dlc.outcome_value
    assert not jobs


@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 32767),
    st.integers(250, 20_000),
    st.text(max_size=3),
)
@settings(max_examples=8, deadline=None)
def test_a_signed_contract_pays_whoever_wins(
    places: int, more: int, delta: int, fee_rate: int, seed: str
) -> None:
    contract = competition(
        places + more, places, seed=seed, delta=delta, fee_rate=fee_rate, funding_value=10_000_000
    )
    dlc = contract.dlc
    signatures = sign(contract)
    dlc.verify_signatures(signatures)
    for outcome in ("att0", f"att{dlc.outcome_count - 2}"):
        raw = spends.outcome_transaction(
            dlc, outcome, signatures.outcome[outcome], contract.attestation(outcome)
        )
        assert is_valid(raw, dlc.funding_output())
        for player in dlc.winners(outcome):
            ticket = contract.ticket_preimages[player]
            raw = spends.split_transaction(
                dlc, outcome, player, signatures.split[f"{outcome}:p{player}"], ticket
            )
            assert is_valid(raw, dlc.outcome_output(outcome))
            item = spends.win_input(dlc, outcome, player, contract.player_secrets[player], ticket)
            assert is_valid(spends.spend([item], DESTINATION, 3), item.output)
