"""`make torture`: every scenario with a core that dies again and again, and with one that dies once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from torture.harness import SCENARIOS, Scenario, running_stage

# Deaths at one point of a run: players reach many points one after the other.
MOST = 2
AT_LEAST_IN_ALL = 200
# What only reads is tried in the runs of many deaths alone: nothing has changed since the point before.
READS = (" GET ", "lightning.lookup", "lightning.track", "lightning.decode", "lightning.balance")

deaths: Counter[str] = Counter()
died_once_at: set[str] = set()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_a_core_killed_at_every_point_ends_as_one_that_never_died(
    tmp_path: Path, scenario: Scenario, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_stage(tmp_path) as stage:
        undisturbed = await stage.play(scenario, record=True)
        tortured = await stage.play(scenario, most=MOST, seconds=1200)
        deaths["again and again"] += tortured.died_at.total()
        with capsys.disabled():
            print(
                f"\n{scenario.name}: {tortured.died_at.total()} deaths at {len(tortured.died_at)} points of"
                f" one competition in {tortured.seconds:.0f} s (undisturbed: {undisturbed.seconds:.0f} s)"
            )
        assert tortured.ending == undisturbed.ending
        single = 0
        for name, crossed in Counter(undisturbed.crossings).items():
            if name in died_once_at or any(read in name for read in READS):
                continue
            died_once_at.add(name)
            # Each transaction is a point of its own, what is done for each player alike is not.
            for nth in range(1, crossed + 1 if "POST /tx" in name else 2):
                killed = await stage.play(scenario, once=name, nth=nth, seconds=120)
                assert killed.ending == undisturbed.ending, f"died at crossing {nth} of {name}"
                single += killed.died_at.total()
        deaths["once"] += single
        with capsys.disabled():
            print(f"{scenario.name}: {single} competitions with a single death each")


def test_there_were_enough_deaths(capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{deaths.total()} deaths: " + ", ".join(f"{n} {how}" for how, n in deaths.items()))
    assert deaths.total() >= AT_LEAST_IN_ALL
