"""Every transaction of a contract in real blocks, judged by Bitcoin Core's ChainstateManager: valid from its
lock on, invalid one block earlier, never valid with the wrong secret. Mempools are bypassed, and asked too.
"""

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.contract import adaptor, spends
from coordinator.contract.script import p2tr_script
from coordinator.contract.secp import public_key
from coordinator.contract.tx import Transaction
from support.chain import running_chain
from support.contract import secret
from support.contract_chain import Funded, funded

DELTA = 5
DESTINATION = p2tr_script(public_key(secret("destination"))[1:])
STRANGER = secret("stranger")
INVALID = "CONSENSUS"


@pytest.fixture
async def case(tmp_path: Path) -> AsyncIterator[Funded]:
    """Three players, two places, no expiry; att0 pays players 0 and 1."""
    async with running_chain(tmp_path / "chain") as chain:
        yield await funded(chain, delta=DELTA)


@pytest.fixture
def anything_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the builders make invalid transactions, to see consensus refuse them."""
    monkeypatch.setattr(spends, "_check_key", lambda *_: None)
    monkeypatch.setattr(spends, "_check_preimage", lambda *_: None)


def outcome(case: Funded, key: str = "att0") -> bytes:
    attestation = case.contract.attestation(key)
    return spends.outcome_transaction(case.dlc, key, case.signatures.outcome[key], attestation)


def split(case: Funded, key: str = "att0", player: int = 0) -> bytes:
    ticket = case.contract.ticket_preimages[player]
    return spends.split_transaction(case.dlc, key, player, case.signatures.split[f"{key}:p{player}"], ticket)


def to_destination(item: spends.SpendInput) -> bytes:
    return spends.spend([item], DESTINATION, 2)


def win(case: Funded) -> bytes:
    contract = case.contract
    own, ticket = contract.player_secrets[0], contract.ticket_preimages[0]
    return to_destination(spends.win_input(case.dlc, "att0", 0, own, ticket))


def sellback(case: Funded) -> bytes:
    maker, payout = case.contract.market_maker_secret, case.contract.payout_preimages[0]
    return to_destination(spends.sellback_input(case.dlc, "att0", 0, maker, payout))


def split_reclaim(case: Funded) -> bytes:
    return to_destination(spends.split_reclaim_input(case.dlc, "att0", 0, case.contract.market_maker_secret))


def outcome_reclaim(case: Funded) -> bytes:
    return to_destination(spends.outcome_reclaim_input(case.dlc, "att0", case.contract.market_maker_secret))


def split_close(case: Funded) -> bytes:
    keys = [case.contract.market_maker_secret, case.contract.player_secrets[0]]
    return to_destination(spends.split_close_input(case.dlc, "att0", 0, keys))


def outcome_close(case: Funded) -> bytes:
    return to_destination(spends.outcome_close_input(case.dlc, "att0", case.contract.secret_keys))


def funding_close(case: Funded) -> bytes:
    return to_destination(spends.funding_close_input(case.dlc, case.contract.secret_keys))


async def valid_from(case: Funded, raw: bytes, height: int) -> None:
    """A transaction is invalid in every block below a height, and valid in the block of that height."""
    txid = Transaction.parse(raw).txid
    while case.height + 1 < height:
        assert case.block_reason(raw) == INVALID, f"valid in block {case.height + 1} of {height}"
        refusal = await case.relay_reason(raw)
        assert refusal is not None
        assert "non-BIP68-final" in refusal
        await case.chain.mine()
    assert case.height + 1 == height
    assert case.block_reason(raw) is None
    status = await case.chain.json(f"/tx/{txid}/status")
    assert (status["confirmed"], status["block_height"]) == (True, height)  # type: ignore[index]


async def test_outcome_split_and_win(case: Funded) -> None:
    # Their parents' block is too early for those that wait.
    assert case.block_reason(outcome(case), split(case)) == INVALID
    assert case.block_reason(split(case)) == INVALID
    assert case.block_reason(outcome(case)) is None
    confirmed_at = case.height
    await valid_from(case, split(case), confirmed_at + DELTA)
    await valid_from(case, win(case), confirmed_at + 2 * DELTA)
    # All of it is spent now.
    for raw in (outcome(case), split(case), win(case), funding_close(case), outcome_close(case)):
        assert case.block_reason(raw) == INVALID


@pytest.mark.parametrize(("reclaim", "through_split"), [(outcome_reclaim, False), (split_reclaim, True)])
async def test_reclaims_wait_twice_delta(
    case: Funded, reclaim: Callable[[Funded], bytes], through_split: bool
) -> None:
    await case.mine_with(outcome(case))
    if through_split:
        await case.chain.mine(DELTA - 1)
        await case.mine_with(split(case))
    await valid_from(case, reclaim(case), case.height + 2 * DELTA)


async def test_a_player_that_waits_too_long_can_still_be_faster(case: Funded) -> None:
    """The reclaim does not end the winner's right: whoever is mined first."""
    await case.mine_with(outcome(case))
    await case.chain.mine(DELTA - 1)
    await case.mine_with(split(case))
    await case.chain.mine(3 * DELTA)
    assert case.block_reason(win(case), split_reclaim(case)) == INVALID
    assert case.block_reason(win(case)) is None
    assert case.block_reason(split_reclaim(case)) == INVALID


@pytest.mark.parametrize("spend", [sellback, split_close])
async def test_a_split_output_is_sold_back_or_closed_at_once(
    case: Funded, spend: Callable[[Funded], bytes]
) -> None:
    await case.mine_with(outcome(case))
    await case.chain.mine(DELTA - 1)
    assert case.block_reason(spend(case)) == INVALID
    assert case.block_reason(split(case), spend(case)) is None


async def test_an_outcome_output_is_closed_at_once(case: Funded) -> None:
    assert case.block_reason(outcome_close(case)) == INVALID
    assert case.block_reason(outcome(case), outcome_close(case)) is None


async def test_the_funding_output_is_closed_at_once(case: Funded) -> None:
    assert case.block_reason(outcome(case), funding_close(case)) == INVALID
    assert case.block_reason(funding_close(case)) is None


async def test_the_expiry_waits_for_the_median_time(tmp_path: Path) -> None:
    expiry = int(time.time()) + 3000
    async with running_chain(tmp_path / "chain") as chain:
        case = await funded(chain, delta=DELTA, expiry=expiry)
        node = chain.node
        raw = spends.expiry_transaction(case.dlc, case.signatures.outcome["exp"])
        # BIP113: the median time of the eleven blocks before counts. Equal is not enough.
        for block_time in (expiry, expiry + 1):
            for _ in range(6):
                assert node.median_time_at() < block_time
                assert case.block_reason(raw, time_at=block_time) == INVALID
                refusal = await case.relay_reason(raw)
                assert refusal is not None
                assert "non-final" in refusal
                assert case.block_reason(time_at=block_time) is None
            assert node.median_time_at() == block_time
        assert case.block_reason(raw, time_at=expiry + 2) is None
        confirmed_at = case.height
        await valid_from(case, split(case, "exp", 2), confirmed_at + DELTA)
        for player in range(3):
            own, ticket = case.contract.player_secrets[player], case.contract.ticket_preimages[player]
            share = to_destination(spends.win_input(case.dlc, "exp", player, own, ticket))
            if player == 0:
                await valid_from(case, share, confirmed_at + 2 * DELTA)
            else:
                assert case.block_reason(share) is None


async def test_an_expiry_by_height_waits_for_its_block(tmp_path: Path) -> None:
    async with running_chain(tmp_path / "chain") as chain:
        expiry = chain.node.height() + 5
        case = await funded(chain, delta=DELTA, expiry=expiry)
        raw = spends.expiry_transaction(case.dlc, case.signatures.outcome["exp"])
        while case.height < expiry:
            assert case.block_reason(raw) == INVALID
            await chain.mine()
        assert case.block_reason(raw) is None
        assert case.height == expiry + 1


async def test_the_refund_pays_everybody(case: Funded) -> None:
    refund = f"att{case.dlc.outcome_count - 1}"
    assert case.dlc.winners(refund) == (0, 1, 2)
    await case.mine_with(outcome(case, refund))
    await valid_from(case, split(case, refund, 1), case.height + DELTA)


async def test_the_wrong_attestation_completes_nothing(case: Funded) -> None:
    dlc, contract, signatures = case.dlc, case.contract, case.signatures.outcome
    keys = list(dlc.outcomes())
    for key in keys:
        right = contract.attestation(key)
        others = [contract.attestation(other) for other in keys if other != key]
        for wrong in [*others, STRANGER, (int.from_bytes(right, "big") ^ 1).to_bytes(32, "big")]:
            forged = dlc.outcome_tx(key).with_witness(0, [adaptor.adapt(signatures[key], wrong)])
            assert case.block_reason(forged.serialize()) == INVALID
    # A completed signature of one outcome does not fit another with other winners.
    completed = Transaction.parse(outcome(case, "att0")).inputs[0].witness
    other = next(key for key in keys if dlc.winners(key) != dlc.winners("att0"))
    assert case.block_reason(dlc.outcome_tx(other).with_witness(0, completed).serialize()) == INVALID
    assert case.block_reason(outcome(case, "att0")) is None


@pytest.mark.usefixtures("anything_goes")
async def test_the_wrong_key_or_preimage_spends_nothing(case: Funded) -> None:
    contract, dlc = case.contract, case.dlc
    maker, own, ticket = (
        contract.market_maker_secret,
        contract.player_secrets[0],
        contract.ticket_preimages[0],
    )
    payout = contract.payout_preimages[0]
    await case.mine_with(outcome(case))
    await case.chain.mine(2 * DELTA)
    right = Transaction.parse(split(case)).inputs[0].witness
    tampered = {
        "no preimage": (right[0], b"", *right[2:]),
        "a stranger's preimage": (right[0], STRANGER, *right[2:]),
        "another winner's preimage": (right[0], contract.ticket_preimages[1], *right[2:]),
        "another leaf's signature": (case.signatures.split["att0:p1"], *right[1:]),
        "another outcome's signature": (case.signatures.split["att1:p0"], *right[1:]),
    }
    for name, witness in tampered.items():
        raw = dlc.split_tx("att0").with_witness(0, witness).serialize()
        assert case.block_reason(raw) == INVALID, name
    for name, item in {
        "reclaim by a player": spends.outcome_reclaim_input(dlc, "att0", own),
        "reclaim by a stranger": spends.outcome_reclaim_input(dlc, "att0", STRANGER),
    }.items():
        assert case.block_reason(to_destination(item)) == INVALID, name
    await case.mine_with(split(case))
    await case.chain.mine(2 * DELTA)
    for name, item in {
        "win, market maker's key": spends.win_input(dlc, "att0", 0, maker, ticket),
        "win, other winner's key": spends.win_input(dlc, "att0", 0, contract.player_secrets[1], ticket),
        "win, payout preimage": spends.win_input(dlc, "att0", 0, own, payout),
        "win, other winner's ticket": spends.win_input(dlc, "att0", 0, own, contract.ticket_preimages[1]),
        "sellback, player's key": spends.sellback_input(dlc, "att0", 0, own, payout),
        "sellback, ticket preimage": spends.sellback_input(dlc, "att0", 0, maker, ticket),
        "sellback, stranger's preimage": spends.sellback_input(dlc, "att0", 0, maker, STRANGER),
        "reclaim, player's key": spends.split_reclaim_input(dlc, "att0", 0, own),
    }.items():
        assert case.block_reason(to_destination(item)) == INVALID, name
    assert case.block_reason(win(case)) is None


async def test_a_lock_cannot_be_shortened(case: Funded) -> None:
    """Sequences are signed, and the scripts compare them."""
    await case.mine_with(outcome(case))
    maker = case.contract.market_maker_secret
    reclaim = spends.outcome_reclaim_input(case.dlc, "att0", maker)
    await case.chain.mine(DELTA)
    for sequence in (0, DELTA, 2 * DELTA - 1, 2 * DELTA | 1 << 22, 2 * DELTA | 1 << 31, 0xFFFFFFFD):
        assert case.block_reason(to_destination(replace(reclaim, sequence=sequence))) == INVALID, sequence
    early = Transaction.parse(split(case))
    early = replace(early, inputs=(replace(early.inputs[0], sequence=1),))
    assert case.block_reason(early.serialize()) == INVALID
    assert case.block_reason(split(case)) is None


async def test_rankings_of_the_same_winners_share_their_outcome_output(case: Funded) -> None:
    """A property of the dlctix contract to know: the order of the same winners is not enforced by the outcome
    output, since splits are signed without the attestation. See docs/recovery.md.
    """
    assert case.dlc.rank("att0") == (0, 1)
    assert case.dlc.rank("att2") == (1, 0)
    assert case.dlc.outcome_outpoint("att0") == case.dlc.outcome_outpoint("att2")
    await case.mine_with(outcome(case, "att0"))
    await valid_from(case, split(case, "att2", 1), case.height + DELTA)
