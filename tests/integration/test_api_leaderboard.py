"""The leaderboard against the oracle: what it shows in the end is what the oracle attests to."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.operations.leaderboard import Leaderboards
from coordinator.ports.oracle import OracleUnavailable
from support.world import running_world


class Later:
    """A clock that is ahead: after the signing date of the test's competition, and not yet at its expiry."""

    @staticmethod
    def now() -> int:
        return int(time.time()) + 3701


async def test_the_leaders_at_the_end_are_the_winners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_world(tmp_path) as world:
        players = [await world.player(f"player{number}") for number in range(3)]
        # A day of observations and more predictions than one: somebody is right somewhere.
        now = int(time.time())
        made = await world.create(
            scoring_fields=("temp_high", "temp_low", "wind_speed"),
            number_of_values_per_entry=6,
            start_observation_at=now + 60,
            end_observation_at=now + 3600,
            signing_at=now + 3700,
        )
        for player in players:
            await world.buy_ticket(made, player)
            await world.enter(made, player)
        core = replace(world.core, clock=Later())
        open_board = await Leaderboards(core).of(await core.competitions.load(made))
        assert [(row.points, row.score) for row in open_board.rows] == [(0, 0)] * 3
        players.sort(key=lambda player: player.ticket_id)
        await world.funded(made, players)
        record = await core.competitions.load(made)

        before = await Leaderboards(world.core).of(record)
        assert [row.player_index for row in before.rows] == [0, 1, 2]
        assert {row.points for row in before.rows} == {0}

        monkeypatch.setattr(world.oracle, "_clock", Later.now)
        boards = Leaderboards(core)
        board = await boards.of(record)
        assert [row.rank for row in board.rows] == [1, 2, 3]
        assert board.rows[0].points > 0
        assert [row.points for row in board.rows] == sorted((r.points for r in board.rows), reverse=True)
        for row in board.rows:
            player = players[row.player_index]
            assert (row.ticket_id, row.entry_id) == (player.ticket_id, player.entry_id)
            assert row.owner_pubkey == player.pubkey

        assert await world.oracle.attest_due() == 1
        attested = (await world.wait_for(made, "attested", "outcome_broadcasted", mining=True)).status
        winners = attested.attestation.winners  # type: ignore[union-attr]
        final = await Leaderboards(core).of(await core.competitions.load(made))
        assert final.final
        assert winners == tuple(row.player_index for row in final.rows[: len(winners)])


async def test_many_who_look_are_one_question_to_the_oracle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_world(tmp_path) as world:
        players = [await world.player(f"player{number}") for number in range(3)]
        made = await world.create()
        for player in players:
            await world.buy_ticket(made, player)
            await world.enter(made, player)
        await world.releases_signed(made, players)
        await world.wait_for(made, "entries_submitted", "awaiting_keygen", "funding_ready", mining=True)
        core = replace(world.core, clock=Later())
        record = await core.competitions.load(made)
        asked = 0
        get_event = core.oracle.get_event

        async def counting(event_id: str) -> object:
            nonlocal asked
            asked += 1
            if asked == 1:
                raise OracleUnavailable("busy")
            return await get_event(event_id)

        monkeypatch.setattr(core.oracle, "get_event", counting)
        boards = Leaderboards(core)
        with pytest.raises(OracleUnavailable):
            await boards.of(record)
        first = await boards.of(record)  # a failure is not kept
        for _ in range(20):
            assert await boards.of(record) == first
        assert asked == 2
