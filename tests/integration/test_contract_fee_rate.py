"""The fee rate that a contract keeps for life: as the admin says, or with headroom above what is paid now."""

from pathlib import Path

import pytest

from coordinator.domain.ids import new_uuid7
from coordinator.operations.competitions import create_competition
from coordinator.ports.chain import ChainUnavailable
from support.world import running_world


async def test_a_contract_without_a_fee_rate_gets_twice_the_estimate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_world(tmp_path, fee_rate_sats_per_vb=3) as world:

        async def chosen(asked: int, competition_id: str = "") -> int:
            terms = world.terms(fee_rate_sats_per_vb=asked)
            record = await create_competition(world.core, competition_id, terms)
            return record.status.facts.terms.fee_rate_sats_per_vb

        # Blocks are empty: the configured default is more than twice the estimate.
        assert await chosen(0) == 3
        await world.chain.post("/devnet/chain/fee_rate", {"sat_per_vb": 8.2})
        assert await chosen(0) == 17
        assert await chosen(5) == 5
        # The same request later, at other fees, is the same competition.
        competition_id = new_uuid7()
        assert await chosen(0, competition_id) == 17
        await world.chain.post("/devnet/chain/fee_rate", {"sat_per_vb": 1})
        assert await chosen(0, competition_id) == 17

        async def unreachable() -> dict[int, float]:
            raise ChainUnavailable("nobody there")

        monkeypatch.setattr(world.core.chain, "fee_rates", unreachable)
        assert await chosen(0) == 3
