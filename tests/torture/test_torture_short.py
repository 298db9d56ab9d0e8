"""The short form of `make torture`: a core that dies where money is about to move, and just after."""

from pathlib import Path

from torture.harness import CLOSED, running_stage

MONEY = r"^(before|after) (lightning|POST /tx)|^lightning|commit runner/payments|commit runner/closing"


async def test_a_core_that_is_killed_around_every_movement_of_money_loses_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    async with running_stage(tmp_path) as stage:
        undisturbed = await stage.play(CLOSED)
        tortured = await stage.play(CLOSED, most=1, only=MONEY, seconds=120)
    assert undisturbed.died_at.total() == 0
    assert undisturbed.ending.state == "COMPLETED"
    assert tortured.died_at.total() >= 15
    assert tortured.ending == undisturbed.ending
