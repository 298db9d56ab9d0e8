"""`make torture`: every scenario with a core that dies three times at every crash point."""

from __future__ import annotations

from pathlib import Path

import pytest

from torture.harness import SCENARIOS, Result, Scenario, play

MOST = 3
AT_LEAST_IN_ALL = 200
RESULTS: dict[str, Result] = {}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_a_core_killed_at_every_point_ends_as_one_that_never_died(
    tmp_path: Path, scenario: Scenario, capsys: pytest.CaptureFixture[str]
) -> None:
    undisturbed = await play(tmp_path / "undisturbed", scenario, most=0)
    tortured = await play(tmp_path / "tortured", scenario, most=MOST, seconds=1200)
    RESULTS[scenario.name] = tortured
    with capsys.disabled():
        print(
            f"\n{scenario.name}: {tortured.died_at.total()} deaths at {len(tortured.died_at)} points"
            f" in {tortured.seconds:.0f} s (undisturbed: {undisturbed.seconds:.0f} s)"
        )
    assert tortured.state == undisturbed.state
    assert tortured.balances == undisturbed.balances
    assert tortured.fees_sats == undisturbed.fees_sats


def test_there_were_enough_deaths() -> None:
    assert sum(result.died_at.total() for result in RESULTS.values()) >= AT_LEAST_IN_ALL
