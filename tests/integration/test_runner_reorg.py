"""Reorganisations of up to six blocks, in every funded state: what fell out of the chain comes back.

Each depth is tried twice: with a running core, when the transactions return to the mempool; and while the
core is away, when no mempool has them any more and it has to send them again, parents first.
"""

from pathlib import Path

import pytest

from coordinator.domain import states
from coordinator.ports.chain import TransactionStatus
from coordinator.runner import funding
from coordinator.runner.step import LATER
from support.reorgs import (
    bury,
    confirmations,
    confirmed_again,
    entered,
    funded_status,
    is_known,
    locked_outpoints,
    reorganise,
    rewind,
    stopped,
    told,
)
from support.world import World, running_world, until

DEPTHS = range(1, 7)


async def newest(world: World, competition_id: str) -> tuple[str, str]:
    """Role and txid of the last transaction that the state stands on."""
    role, broadcast = (await funded_status(world, competition_id)).broadcasts[-1]
    return role, broadcast.txid


async def noticed(world: World, competition_id: str, role: str, before: int) -> None:
    async def event() -> bool:
        return await told(world, competition_id, "transaction.unconfirmed", role) > before

    await until(event)


async def lost_and_back(world: World, competition_id: str, depth: int) -> None:
    """With a running core: the mempool has what fell out of the chain."""
    role, txid = await newest(world, competition_id)
    await bury(world, txid, depth)
    await confirmed_again(world, competition_id)
    await bury(world, txid, depth)
    before = await told(world, competition_id, "transaction.unconfirmed", role)
    await reorganise(world, depth)
    assert await is_known(world, txid)
    await noticed(world, competition_id, role, before)


async def lost_for_good(world: World, competition_id: str, depth: int, rewound: type | None) -> None:
    """While the core is away: nobody has any more what fell out of the chain."""
    async with stopped(world):
        if rewound is not None:
            await rewind(world, competition_id, rewound)
        role, txid = await newest(world, competition_id)
        before = await told(world, competition_id, "transaction.unconfirmed", role)
        await bury(world, txid, depth)
        known = (await funded_status(world, competition_id)).broadcasts
        await reorganise(world, depth, drop=tuple(broadcast.txid for _, broadcast in known))
        assert not await is_known(world, txid)
    await noticed(world, competition_id, role, before)
    await until(lambda: is_known(world, txid))


async def check_every_depth(
    world: World, competition_id: str, name: str, *, rewound: type | None = None
) -> None:
    # The state is written before its transaction is sent.
    await confirmed_again(world, competition_id)
    for depth in DEPTHS:
        if rewound is None:
            await lost_and_back(world, competition_id, depth)
            await confirmed_again(world, competition_id)
        await lost_for_good(world, competition_id, depth, rewound)
        await world.wait_for(competition_id, name, mining=True)
        await confirmed_again(world, competition_id)
        record = await world.core.competitions.load(competition_id)
        assert (record.status.name, record.failed_attempts, record.at_rest) == (name, 0, False)


async def test_an_escrow_that_is_lost_before_funding(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        competition_id, players = await entered(world)
        await world.releases_signed(competition_id, players)
        record = await world.wait_for(competition_id, "funding_ready", mining=True)
        assert isinstance(record.status, states.FundingReady)
        txid = record.status.escrow.txid
        for depth in DEPTHS:
            await bury(world, txid, depth)
            async with stopped(world):
                await reorganise(world, depth, drop=(txid,))
                assert not await is_known(world, txid)
            await until(lambda: is_known(world, txid))
        for player in players:
            await world.sign_funding(competition_id, player)
        await world.wait_for(competition_id, "awaiting_attestation", mining=True)


async def test_funding_broadcasted(tmp_path: Path) -> None:
    """Six confirmations at most, seven are asked for."""
    async with running_world(tmp_path, funding_confirmations=7) as world:
        competition_id, players = await entered(world)
        await world.releases_signed(competition_id, players)
        await world.wait_for(competition_id, "funding_ready", mining=True)
        for player in players:
            await world.sign_funding(competition_id, player)
        await world.wait_for(competition_id, "funding_broadcasted")
        status = await funded_status(world, competition_id)
        funding_txid, escrow_txid = status.funding.txid, status.escrow.txid
        for depth in DEPTHS:
            await until(lambda: is_known(world, funding_txid))
            await bury(world, funding_txid, depth)
            async with stopped(world):
                # The escrow transaction goes with it where it is young enough.
                await reorganise(world, depth, drop=(funding_txid, escrow_txid))
                assert not await is_known(world, funding_txid)
            record = await world.core.competitions.load(competition_id)
            assert record.status.name == "funding_broadcasted"
        await until(lambda: is_known(world, funding_txid))
        await world.wait_for(competition_id, "awaiting_attestation", mining=True)


async def test_funding_confirmed_steps_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is settled while the funding transaction is not confirmed."""

    async def hold(*_: object) -> None:
        return LATER

    async with running_world(tmp_path) as world:
        competition_id, players = await entered(world)
        with monkeypatch.context() as held:
            held.setattr(funding, "settle", hold)
            await world.releases_signed(competition_id, players)
            await world.wait_for(competition_id, "funding_ready", mining=True)
            for player in players:
                await world.sign_funding(competition_id, player)
            record = await world.wait_for(competition_id, "funding_confirmed", mining=True)
        assert isinstance(record.status, states.FundingConfirmed)
        txid = record.status.funding.txid
        for depth in DEPTHS:
            with monkeypatch.context() as held:
                held.setattr(funding, "settle", hold)
                await world.wait_for(competition_id, "funding_confirmed", mining=True)
                await bury(world, txid, depth)
                await reorganise(world, depth, drop=(txid,) if depth % 2 else ())
                assert await confirmations(world, txid) == 0
            await world.wait_for(competition_id, "funding_broadcasted")
            assert "ticket.settled" not in await world.event_kinds(competition_id)
        assert await told(world, competition_id, "transaction.unconfirmed", "funding") == len(DEPTHS)
        await world.wait_for(competition_id, "awaiting_attestation", mining=True)


async def test_awaiting_attestation_and_funding_settled(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        competition_id, players = await entered(world)
        await world.funded(competition_id, players)
        await check_every_depth(world, competition_id, "awaiting_attestation")
        await check_every_depth(world, competition_id, "awaiting_attestation", rewound=states.FundingSettled)


async def test_attested_and_outcome_broadcasted(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        competition_id, players = await entered(world)
        await world.funded(competition_id, players)
        await world.oracle.attest(competition_id, (1, 0))
        await world.outcome_confirmed(competition_id)
        await check_every_depth(world, competition_id, "outcome_broadcasted")
        await check_every_depth(world, competition_id, "outcome_broadcasted", rewound=states.Attested)


async def test_delta_broadcasted_and_completed(tmp_path: Path) -> None:
    """Prizes that nobody took: the reclaiming transaction is watched until six blocks are on top."""
    async with running_world(tmp_path) as world:
        competition_id, players = await entered(world, relative_locktime_blocks=40)
        await world.funded(competition_id, players)
        await world.oracle.attest(competition_id, (2, 0))
        await world.outcome_confirmed(competition_id)
        await world.chain.mine(38)
        await world.wait_for(competition_id, "delta_broadcasted", mining=True)
        await check_every_depth(world, competition_id, "delta_broadcasted")
        await world.chain.mine(78)
        record = await world.wait_for(competition_id, "completed", mining=True)
        assert isinstance(record.status, states.Completed)
        (closing,) = record.status.closings
        for depth in range(1, 6):
            await bury(world, closing.txid, depth)
            async with stopped(world):
                await reorganise(world, depth, drop=(closing.txid,))
                assert not await is_known(world, closing.txid)
            await until(lambda: is_known(world, closing.txid))
        while await confirmations(world, closing.txid) < 6:
            assert not (await world.core.competitions.load(competition_id)).at_rest
            await world.chain.mine()
        record = await world.at_rest(competition_id, mining=False)
        assert record.status.name == "completed"


async def test_a_lost_outcome_delays_the_split_and_is_no_failure(tmp_path: Path) -> None:
    """The split transaction's relative lock starts anew: until it is over the state waits, without error."""
    async with running_world(tmp_path) as world:
        competition_id, players = await entered(world, relative_locktime_blocks=3)
        await world.funded(competition_id, players)
        await world.oracle.attest(competition_id, (2, 0))
        record = await world.wait_for(competition_id, "delta_broadcasted", mining=True)
        assert isinstance(record.status, states.DeltaBroadcasted)
        outcome, split = record.status.outcome_broadcast.txid, record.status.split_broadcast.txid
        await until(lambda: is_known(world, split))
        async with stopped(world):
            await reorganise(world, await confirmations(world, outcome), drop=(outcome,))
        await until(lambda: is_known(world, outcome))
        await world.chain.mine()
        await until(lambda: _has_height(world, competition_id, "outcome"))
        record = await world.core.competitions.load(competition_id)
        assert (record.status.name, record.failed_attempts, record.last_error) == ("delta_broadcasted", 0, "")
        assert not await is_known(world, split)
        # The block that takes it is the third from the outcome's on.
        await world.chain.mine(2)
        await until(lambda: is_known(world, split))
        record = await world.at_rest(competition_id)
        assert record.status.name == "completed"


async def _has_height(world: World, competition_id: str, role: str) -> bool:
    status = await funded_status(world, competition_id)
    return dict(status.broadcasts)[role].block_height is not None


async def test_coins_stay_locked_until_their_spend_is_buried(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        competition_id, players = await entered(world)
        await world.funded(competition_id, players)
        status = await funded_status(world, competition_id)
        spent = [f"{coin.txid}:{coin.vout}" for coin in (*status.escrow.coins, *status.funding.coins)]
        txid = status.funding.txid

        while await confirmations(world, txid) < 6:
            assert await locked_outpoints() >= set(spent)
            await world.restart()
            await world.chain.mine()

        async def free() -> bool:
            return not await locked_outpoints() & set(spent)

        await until(free)


async def test_payments_wait_for_a_buried_funding_when_escrows_can_be_clawed_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its preimage a player could otherwise use a reorganisation to put the clawback first."""
    async with running_world(tmp_path) as world:
        competition_id, players = await entered(world)
        await world.releases_signed(competition_id, players)
        await world.wait_for(competition_id, "funding_ready", mining=True)
        await world.chain.mine(140)
        for player in players:
            await world.sign_funding(competition_id, player)
        await world.wait_for(competition_id, "funding_broadcasted")
        txid = (await funded_status(world, competition_id)).funding.txid
        await until(lambda: is_known(world, txid))
        chain, looks = world.core.chain, 0
        look = chain.transaction_status

        async def counted(asked: str) -> TransactionStatus | None:
            nonlocal looks
            looks += asked == txid
            return await look(asked)

        async def looked_twice() -> bool:
            return looks >= 2

        monkeypatch.setattr(chain, "transaction_status", counted)
        for depth in range(1, 6):
            await bury(world, txid, depth)
            looks = 0
            await until(looked_twice)
            record = await world.core.competitions.load(competition_id)
            assert record.status.name == "funding_broadcasted"
        await bury(world, txid, 6)
        await world.wait_for(competition_id, "awaiting_attestation")
        assert "ticket.settled" in await world.event_kinds(competition_id)
