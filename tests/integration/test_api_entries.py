"""What an entry's owner gets from the API: changes until it closes, backups anywhere, points as they come."""

import hashlib
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.contract.secp import public_key
from coordinator.operations import entries
from coordinator.ports.clock import SystemClock
from coordinator.ports.oracle import OracleUnavailable
from coordinator.store.models import EntryRow
from coordinator.v1 import competition_pb2, entry_pb2
from coordinator_client.keymeld import KeymeldClient, register_player
from coordinator_client.nostr import NostrKey, nip44
from support.api import Api, ApiError, running_api
from support.world import WorldPlayer

WINDOW_SECONDS = 3600


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(tmp_path) as running:
        yield running


async def competition(api: Api, **changes: object) -> str:
    """A day's observations, more predictions than one."""
    now = int(time.time())
    return await api.world.create(
        start_observation_at=now + 60,
        end_observation_at=now + 60 + WINDOW_SECONDS,
        signing_at=now + 160 + WINDOW_SECONDS,
        **changes,
    )


async def filled(api: Api, competition_id: str, count: int = 3) -> list[WorldPlayer]:
    players = [await api.world.player(f"player{index}") for index in range(count)]
    for player in players:
        await api.world.buy_ticket(competition_id, player)
        await api.world.enter(competition_id, player)
    return sorted(players, key=lambda player: player.ticket_id)


async def shown(api: Api, entry_id: str, key: NostrKey | None = None) -> entry_pb2.Entry:
    request = entry_pb2.GetEntryRequest(entry_id=entry_id)
    entry = (await api.call("EntryService/GetEntry", request, key)).entry
    assert isinstance(entry, entry_pb2.Entry)
    return entry


async def test_predictions_cannot_be_changed_once_collection_closed(api: Api) -> None:
    competition_id = await competition(api)
    players = await filled(api, competition_id)
    await api.world.wait_for(competition_id, "awaiting_escrow")
    entry = await shown(api, players[0].entry_id, players[0].key)
    request = entry_pb2.UpdateEntryRequest(
        entry_id=entry.id, expected_observations=reversed(entry.expected_observations)
    )
    with pytest.raises(ApiError) as error:
        await api.call("EntryService/UpdateEntry", request, players[0].key)
    assert (error.value.code, error.value.reason) == ("FAILED_PRECONDITION", "COMPETITION_CLOSED")
    kept = await shown(api, players[0].entry_id, players[0].key)
    assert list(kept.expected_observations) == list(entry.expected_observations)


async def test_closing_while_predictions_are_changed_is_seen(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It closes after the entry was read, and before it is written."""
    competition_id = await competition(api)
    players = await filled(api, competition_id, 2)
    entry = await shown(api, players[0].entry_id, players[0].key)
    check = entries._check_observations

    def closing(*args: Any) -> None:
        check(*args)
        monkeypatch.setattr(SystemClock, "now", lambda _: int(time.time()) + 61)

    monkeypatch.setattr(entries, "_check_observations", closing)
    request = entry_pb2.UpdateEntryRequest(
        entry_id=entry.id, expected_observations=reversed(entry.expected_observations)
    )
    with pytest.raises(ApiError) as error:
        await api.call("EntryService/UpdateEntry", request, players[0].key)
    assert error.value.reason in ("COMPETITION_STARTED", "COMPETITION_CLOSED")
    row = await EntryRow.get(id=entry.id)
    assert [o["prediction"] for o in row.expected_observations] == [
        entry_pb2.Prediction.Name(o.prediction).removeprefix("PREDICTION_").lower()
        for o in entry.expected_observations
    ]


async def test_a_new_device_with_the_nostr_key_alone_gets_everything_back(api: Api) -> None:
    competition_id = await competition(api)
    player = await api.world.player("player0")
    ticket = await api.world.buy_ticket(competition_id, player)
    facts = (await api.core.competitions.load(competition_id)).status.facts
    async with KeymeldClient(api.world.keymeld_url) as keymeld:
        registration = register_player(
            ticket.id,
            player.ephemeral_secret,
            keygen_session_ids=facts.keygen_session_ids,
            enclaves=await keymeld.enclaves(),
        )

    def backup(secret: bytes) -> str:
        return nip44.encrypt(player.key, player.key.public_hex, secret.hex())

    entry = entry_pb2.Entry(
        ticket_id=ticket.id,
        expected_observations=[
            entry_pb2.ExpectedObservation(station=station, metric=metric, prediction=entry_pb2.PREDICTION_PAR)
            for station in facts.terms.locations
            for metric in facts.terms.scoring_fields
        ],
        ephemeral_pubkey=public_key(player.ephemeral_secret).hex(),
        payout_hash=hashlib.sha256(player.payout_preimage).hexdigest(),
        ephemeral_private_key_encrypted=backup(player.ephemeral_secret),
        payout_preimage_encrypted=backup(player.payout_preimage),
        keymeld=entry_pb2.KeymeldRegistration(
            auth_pubkeys={name: key.hex() for name, key in registration.auth_pubkeys.items()},
            ciphertexts=[
                entry_pb2.EnclaveCiphertext(
                    enclave_id=enclave,
                    key_epoch=registration.enclave_key_epochs[enclave],
                    encrypted_private_key=ciphertext,
                )
                for enclave, ciphertext in registration.encrypted_private_keys.items()
            ],
        ),
    )
    await api.call("EntryService/CreateEntry", entry_pb2.CreateEntryRequest(entry=entry), player.key)

    device = NostrKey(player.key.secret_bytes)
    (found,) = (await api.call("EntryService/ListEntries", entry_pb2.ListEntriesRequest(), device)).entries
    assert found.ticket_id == ticket.id
    for encrypted, secret in (
        (found.ephemeral_private_key_encrypted, player.ephemeral_secret),
        (found.payout_preimage_encrypted, player.payout_preimage),
    ):
        assert nip44.decrypt(device, device.public_hex, encrypted) == secret.hex()
    stranger = NostrKey(secrets.token_bytes(32))
    assert not (await api.call("EntryService/ListEntries", entry_pb2.ListEntriesRequest(), stranger)).entries


async def test_points_come_while_the_window_runs(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prediction by prediction; their sum is what the leaderboard says."""
    world = api.world
    competition_id = await competition(api)
    players = await filled(api, competition_id)
    await world.funded(competition_id, players)
    before = await shown(api, players[0].entry_id)
    assert list(before.scored_predictions) == []

    def half_way(*_: object) -> int:
        return int(time.time()) + 60 + WINDOW_SECONDS // 2

    monkeypatch.setattr(SystemClock, "now", half_way)
    monkeypatch.setattr(world.oracle, "_clock", half_way)
    request = competition_pb2.GetLeaderboardRequest(competition_id=competition_id)
    board = await api.call("CompetitionService/GetLeaderboard", request)
    assert not board.final
    points = {row.entry_id: row.points for row in board.rows}
    assert set(points) == {player.entry_id for player in players}
    seen = []
    for player in players:
        entry = await shown(api, player.entry_id)
        scored = list(entry.scored_predictions)
        assert [(s.station, s.metric, s.prediction) for s in scored] == [
            (o.station, o.metric, o.prediction) for o in entry.expected_observations
        ]
        assert sum(s.points for s in scored) == points[player.entry_id]
        assert all(s.HasField("forecast") for s in scored)
        seen += scored
    # Both kinds of points occur, and what was observed says which is which.
    assert {s.points for s in seen} >= {0, 1}
    for s in seen:
        if s.points == 1:
            assert s.HasField("observed")
            over = s.observed > s.forecast
            assert s.prediction == (entry_pb2.PREDICTION_OVER if over else entry_pb2.PREDICTION_UNDER)
        elif s.points == 2:
            assert s.prediction == entry_pb2.PREDICTION_PAR


async def test_an_entry_is_shown_also_when_the_oracle_does_not_answer(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = api.world
    competition_id = await competition(api)
    players = await filled(api, competition_id)
    await world.funded(competition_id, players)
    monkeypatch.setattr(SystemClock, "now", lambda _: int(time.time()) + 600)

    async def silent(_: str) -> None:
        raise OracleUnavailable("busy")

    monkeypatch.setattr(world.core.oracle, "get_event", silent)
    entry = await shown(api, players[0].entry_id)
    assert (len(entry.expected_observations), len(entry.scored_predictions)) == (4, 0)
