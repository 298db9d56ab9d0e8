"""Players over the API: tickets, entries, keymeld, signatures and payouts, from its answers alone."""

import hashlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from embit.psbt import PSBT

from coordinator.contract.escrow import Escrow, release_transaction, sign_release
from coordinator.contract.funding import EscrowBatch, TicketEscrow
from coordinator.contract.parameters import ContractParameters
from coordinator.contract.secp import public_key
from coordinator.contract.tx import Transaction
from coordinator.domain.ids import new_uuid7
from coordinator.store.models import EntryRow, EventRow, PayoutRow, TicketRow
from coordinator.v1 import competition_pb2, entry_pb2, keymeld_pb2, payout_pb2, ticket_pb2, wallet_pb2
from coordinator_client.keymeld import KeymeldClient, register_player
from coordinator_client.nostr import NostrKey, nip44
from support.api import ADMIN, Api, ApiError, running_api
from support.world import WorldPlayer, until

TICKET = "TicketService/RequestTicket"
STATUS = "TicketService/GetTicketStatus"
CREATE = "EntryService/CreateEntry"


@pytest_asyncio.fixture
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    async with running_api(tmp_path_factory.mktemp("api")) as running:
        yield running


async def open_competition(api: Api, **changes: Any) -> competition_pb2.Competition:
    now = int(time.time())
    terms = competition_pb2.CompetitionTerms(
        name="players",
        entry_fee_sats=50_000,
        coordinator_fee_percent=10,
        total_allowed_entries=3,
        number_of_places_win=2,
        number_of_values_per_entry=4,
        locations=["KORD", "KDEN"],
        scoring_fields=["temp_high", "wind_speed"],
        **changes,
    )
    terms.start_observation_at.seconds = now + 600
    terms.end_observation_at.seconds = now + 700
    terms.signing_at.seconds = now + 800
    request = competition_pb2.CreateCompetitionRequest(terms=terms)
    return (await api.call("CompetitionService/CreateCompetition", request, ADMIN)).competition


async def request_ticket(api: Api, competition_id: str, player: WorldPlayer) -> ticket_pb2.Ticket:
    request = ticket_pb2.RequestTicketRequest(competition_id=competition_id)
    ticket = (await api.call(TICKET, request, player.key)).ticket
    player.ticket_id = ticket.id
    return ticket


async def ticket_of(api: Api, competition_id: str, player: WorldPlayer) -> ticket_pb2.Ticket:
    request = ticket_pb2.GetTicketStatusRequest(competition_id=competition_id, ticket_id=player.ticket_id)
    return (await api.call(STATUS, request, player.key)).ticket


async def buy(api: Api, competition_id: str, player: WorldPlayer) -> ticket_pb2.Ticket:
    ticket = await request_ticket(api, competition_id, player)
    await api.world.pay(player, ticket.payment_request)

    async def held() -> bool:
        state = (await ticket_of(api, competition_id, player)).state
        return bool(state == ticket_pb2.TICKET_STATE_PAID)

    await until(held)
    return await ticket_of(api, competition_id, player)


async def new_entry(api: Api, ticket: ticket_pb2.Ticket, player: WorldPlayer) -> entry_pb2.Entry:
    async with KeymeldClient(api.world.keymeld_url) as client:
        enclaves = await client.enclaves()
    registration = register_player(
        ticket.id, player.ephemeral_secret, keygen_session_ids=ticket.keygen_session_ids, enclaves=enclaves
    )
    return entry_pb2.Entry(
        id=new_uuid7(),
        competition_id=ticket.competition_id,
        ticket_id=ticket.id,
        expected_observations=[
            entry_pb2.ExpectedObservation(station=station, metric=metric, prediction=1 + index % 3)
            for station in ("KORD", "KDEN")
            for index, metric in enumerate(("temp_high", "wind_speed"))
        ],
        ephemeral_pubkey=public_key(player.ephemeral_secret).hex(),
        payout_hash=hashlib.sha256(player.payout_preimage).hexdigest(),
        ephemeral_private_key_encrypted="backup of the key",
        payout_preimage_encrypted="backup of the preimage",
        keymeld=entry_pb2.KeymeldRegistration(
            auth_pubkeys={session: key.hex() for session, key in registration.auth_pubkeys.items()},
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


async def enter(api: Api, ticket: ticket_pb2.Ticket, player: WorldPlayer) -> entry_pb2.Entry:
    request = entry_pb2.CreateEntryRequest(entry=await new_entry(api, ticket, player))
    entry = (await api.call(CREATE, request, player.key)).entry
    player.entry_id = entry.id
    return entry


async def stored() -> tuple[Any, ...]:
    entries = [(row.id, row.expected_observations) for row in await EntryRow.all().order_by("id")]
    tickets = [(row.id, row.state) for row in await TicketRow.all().order_by("id")]
    payouts = [(row.entry_id, row.payment_request) for row in await PayoutRow.all().order_by("entry_id")]
    # The runner may write its own events meanwhile; these come of calls only.
    told = await EventRow.filter(kind__in=("entry.submitted", "entry.updated", "ticket.reserved")).count()
    return entries, tickets, payouts, told


async def refused(api: Api, method: str, request: Any, key: NostrKey | None) -> ApiError:
    """The error of a call that changes nothing."""
    before = await stored()
    with pytest.raises(ApiError) as error:
        await api.call(method, request, key)
    assert await stored() == before
    return error.value


async def test_a_ticket_from_request_to_payment(api: Api) -> None:
    made = await open_competition(api)
    player = await api.world.player("player1")
    ticket = await request_ticket(api, made.id, player)
    assert (ticket.state, ticket.amount_sats) == (ticket_pb2.TICKET_STATE_RESERVED, 50_000)
    assert ticket.keygen_session_ids == made.keygen_session_ids
    assert ticket.reserved_until_at.seconds - ticket.created_at.seconds == 600
    decoded = await api.core.lightning.decode(ticket.payment_request)
    assert (decoded.payment_hash.hex(), decoded.amount_msats) == (ticket.ticket_hash, 50_000_000)
    # While it is reserved and unpaid, asking again gives the same one.
    assert await request_ticket(api, made.id, player) == ticket
    await api.world.pay(player, ticket.payment_request)

    async def held() -> bool:
        return bool((await ticket_of(api, made.id, player)).state == ticket_pb2.TICKET_STATE_PAID)

    await until(held)
    request = competition_pb2.GetCompetitionRequest(competition_id=made.id)
    seen = (await api.call("CompetitionService/GetCompetition", request)).competition
    assert (seen.reserved_tickets, seen.paid_tickets, seen.entries) == (0, 1, 0)


async def test_anothers_ticket_is_not_shown(api: Api) -> None:
    made = await open_competition(api)
    player, other = await api.world.player("player1"), await api.world.player("player2")
    await request_ticket(api, made.id, player)
    other.ticket_id = player.ticket_id
    request = ticket_pb2.GetTicketStatusRequest(competition_id=made.id, ticket_id=player.ticket_id)
    error = await refused(api, STATUS, request, other.key)
    assert (error.code, error.reason) == ("PERMISSION_DENIED", "NOT_TICKET_OWNER")
    request = ticket_pb2.GetTicketStatusRequest(competition_id=new_uuid7(), ticket_id=player.ticket_id)
    assert (await refused(api, STATUS, request, player.key)).code == "NOT_FOUND"
    request = ticket_pb2.GetTicketStatusRequest(competition_id="x", ticket_id="y")
    assert list((await refused(api, STATUS, request, player.key)).fields) == ["competition_id"]


async def test_no_more_tickets_than_places(api: Api) -> None:
    made = await open_competition(api)
    for number in range(3):
        await request_ticket(api, made.id, await api.world.player(f"player{number}"))
    late = await api.world.player("player9")
    error = await refused(api, TICKET, ticket_pb2.RequestTicketRequest(competition_id=made.id), late.key)
    assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "COMPETITION_FULL")
    assert error.retry_seconds is not None
    assert 0 < error.retry_seconds <= 600


async def test_no_tickets_while_paused_or_after_the_end(api: Api) -> None:
    made = await open_competition(api)
    player = await api.world.player("player1")
    pause = competition_pb2.PauseCompetitionRequest(competition_id=made.id, paused=True)
    await api.call("CompetitionService/PauseCompetition", pause, ADMIN)
    request = ticket_pb2.RequestTicketRequest(competition_id=made.id)
    assert (await refused(api, TICKET, request, player.key)).reason == "COMPETITION_PAUSED"
    cancel = competition_pb2.CancelCompetitionRequest(competition_id=made.id)
    await api.call("CompetitionService/CancelCompetition", cancel, ADMIN)
    await api.world.at_rest(made.id, mining=False)
    assert (await refused(api, TICKET, request, player.key)).reason == "COMPETITION_CLOSED"


async def test_an_entry_needs_its_own_held_payment(api: Api) -> None:
    made = await open_competition(api)
    player, other = await api.world.player("player1"), await api.world.player("player2")
    unpaid = await request_ticket(api, made.id, player)
    request = entry_pb2.CreateEntryRequest(entry=await new_entry(api, unpaid, player))
    error = await refused(api, CREATE, request, player.key)
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "TICKET_NOT_PAID")
    error = await refused(api, CREATE, request, other.key)
    assert (error.code, error.reason) == ("PERMISSION_DENIED", "NOT_TICKET_OWNER")
    request.entry.ticket_id = new_uuid7()
    assert (await refused(api, CREATE, request, player.key)).reason == "TICKET_NOT_FOUND"


async def test_one_entry_a_ticket(api: Api) -> None:
    made = await open_competition(api)
    player = await api.world.player("player1")
    ticket = await buy(api, made.id, player)
    request = entry_pb2.CreateEntryRequest(entry=await new_entry(api, ticket, player))
    first = (await api.call(CREATE, request, player.key)).entry
    assert (first.id, first.owner_pubkey, first.player_index) == (request.entry.id, player.pubkey, -1)
    assert not first.HasField("keymeld")
    before = await stored()
    assert (await api.call(CREATE, request, player.key)).entry == first  # the same again is the same entry
    assert await stored() == before
    request.entry.id = new_uuid7()
    error = await refused(api, CREATE, request, player.key)
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "TICKET_USED")
    request.entry.id = first.id
    request.entry.payout_hash = "00" * 32
    assert (await refused(api, CREATE, request, player.key)).reason == "TICKET_USED"
    assert (await ticket_of(api, made.id, player)).entry_id == first.id
    taken = await buy(api, made.id, await api.world.player("player2"))
    assert taken.id != ticket.id


async def test_every_wrong_field_of_an_entry_is_named(api: Api) -> None:
    made = await open_competition(api)
    player = await api.world.player("player1")
    good = await new_entry(api, await buy(api, made.id, player), player)

    async def named(**changes: Any) -> list[str]:
        entry = entry_pb2.Entry()
        entry.CopyFrom(good)
        for name, value in changes.items():
            setattr(entry, name, value)
        request = entry_pb2.CreateEntryRequest(entry=entry)
        error = await refused(api, CREATE, request, player.key)
        assert error.code == "INVALID_ARGUMENT"
        return sorted(error.fields)

    assert await named(id="x") == ["entry.id"]
    assert await named(ticket_id="") == ["entry.ticket_id"]
    assert await named(competition_id="x") == ["entry.competition_id"]
    assert await named(ephemeral_pubkey="02" + "00" * 32) == ["entry.ephemeral_pubkey"]
    assert await named(ephemeral_pubkey="") == ["entry.ephemeral_pubkey"]
    assert await named(payout_hash="AB" * 32) == ["entry.payout_hash"]
    assert await named(payout_hash="ab" * 31) == ["entry.payout_hash"]
    assert await named(payout_preimage_encrypted="x" * 4097) == ["entry.payout_preimage_encrypted"]

    async def named_after(change: Any) -> list[str]:
        entry = entry_pb2.Entry()
        entry.CopyFrom(good)
        change(entry)
        error = await refused(api, CREATE, entry_pb2.CreateEntryRequest(entry=entry), player.key)
        assert error.code == "INVALID_ARGUMENT"
        return sorted(error.fields)

    def one_less(entry: entry_pb2.Entry) -> None:
        del entry.expected_observations[0]

    def one_more(entry: entry_pb2.Entry) -> None:
        entry.expected_observations.add(station="KORD", metric="humidity", prediction=1)

    def twice(entry: entry_pb2.Entry) -> None:
        entry.expected_observations[1].CopyFrom(entry.expected_observations[0])

    def unknown(entry: entry_pb2.Entry) -> None:
        entry.expected_observations[0].station = "KXXX"
        entry.expected_observations[1].metric = "luck"
        entry.expected_observations[2].prediction = 0
        entry.expected_observations[3].prediction = 17

    def thousands(entry: entry_pb2.Entry) -> None:
        entry.expected_observations.extend([entry_pb2.ExpectedObservation(station="é" * 99)] * 20_000)

    observations = "entry.expected_observations"
    assert await named_after(one_less) == [observations]
    assert (await named_after(one_more))[0] == observations
    assert await named_after(twice) == [f"{observations}[1]"]
    assert await named_after(unknown) == [
        f"{observations}[0].station",
        f"{observations}[1].metric",
        f"{observations}[2].prediction",
        f"{observations}[3].prediction",
    ]
    assert (await named_after(thousands))[0] == observations
    assert await named_after(lambda entry: entry.ClearField("expected_observations")) == [observations]
    assert await named_after(lambda entry: entry.ClearField("keymeld")) == [
        "entry.keymeld.auth_pubkeys",
        "entry.keymeld.ciphertexts",
    ]
    # And after all of that the good one is taken.
    await api.call(CREATE, entry_pb2.CreateEntryRequest(entry=good), player.key)


async def test_no_entry_at_all(api: Api) -> None:
    player = await api.world.player("player1")
    error = await refused(api, CREATE, entry_pb2.CreateEntryRequest(), player.key)
    assert (error.code, list(error.fields)) == ("INVALID_ARGUMENT", ["entry.ticket_id"])


async def test_predictions_are_secret_while_others_enter_and_backups_forever(api: Api) -> None:
    made = await open_competition(api)
    player, other = await api.world.player("player1"), await api.world.player("player2")
    mine = await enter(api, await buy(api, made.id, player), player)
    theirs = await enter(api, await buy(api, made.id, other), other)
    get = entry_pb2.GetEntryRequest(entry_id=mine.id)
    own = (await api.call("EntryService/GetEntry", get, player.key)).entry
    assert len(own.expected_observations) == 4
    assert own.ephemeral_private_key_encrypted == "backup of the key"
    for key in (None, other.key, ADMIN):
        seen = (await api.call("EntryService/GetEntry", get, key)).entry
        assert len(seen.expected_observations) == 0
        assert (seen.ephemeral_private_key_encrypted, seen.payout_preimage_encrypted) == ("", "")
        assert (seen.id, seen.owner_pubkey) == (mine.id, player.pubkey)
    listed = await api.call(
        "EntryService/ListEntries", entry_pb2.ListEntriesRequest(competition_id=made.id), other.key
    )
    assert [(e.id, len(e.expected_observations)) for e in listed.entries] == [(mine.id, 0), (theirs.id, 4)]
    # The event log tells of the entry, not of what it predicts.
    rows = await EventRow.filter(competition_id=made.id)
    assert not any("temp_high" in json.dumps(row.data) for row in rows)
    cancel = competition_pb2.CancelCompetitionRequest(competition_id=made.id)
    await api.call("CompetitionService/CancelCompetition", cancel, ADMIN)
    ended = (await api.call("EntryService/GetEntry", get, other.key)).entry
    assert (len(ended.expected_observations), ended.payout_preimage_encrypted) == (4, "")


async def test_own_entries_need_a_caller_and_come_in_pages(api: Api) -> None:
    player = await api.world.player("player1")
    ids = []
    for _ in range(3):
        made = await open_competition(api)
        ids.append((await enter(api, await buy(api, made.id, player), player)).id)
    with pytest.raises(ApiError) as error:
        await api.call("EntryService/ListEntries")
    assert (error.value.code, error.value.reason) == ("UNAUTHENTICATED", "AUTH_REQUIRED")
    first = await api.call("EntryService/ListEntries", entry_pb2.ListEntriesRequest(page_size=2), player.key)
    request = entry_pb2.ListEntriesRequest(page_size=2, page_token=first.next_page_token)
    second = await api.call("EntryService/ListEntries", request, player.key)
    assert [entry.id for entry in (*first.entries, *second.entries)] == ids
    assert second.next_page_token == ""
    # A page token is its list's: not for another caller's list.
    with pytest.raises(ApiError) as error:
        await api.call("EntryService/ListEntries", request, NostrKey.generate())
    assert list(error.value.fields) == ["page_token"]


async def test_changing_predictions_until_it_closes(api: Api) -> None:
    made = await open_competition(api)
    player, other = await api.world.player("player1"), await api.world.player("player2")
    entry = await enter(api, await buy(api, made.id, player), player)
    request = entry_pb2.UpdateEntryRequest(
        entry_id=entry.id, expected_observations=reversed(entry.expected_observations)
    )
    error = await refused(api, "EntryService/UpdateEntry", request, other.key)
    assert (error.code, error.reason) == ("PERMISSION_DENIED", "NOT_ENTRY_OWNER")
    changed = (await api.call("EntryService/UpdateEntry", request, player.key)).entry
    assert list(changed.expected_observations) == list(reversed(entry.expected_observations))
    short = entry_pb2.UpdateEntryRequest(
        entry_id=entry.id, expected_observations=entry.expected_observations[:3]
    )
    error = await refused(api, "EntryService/UpdateEntry", short, player.key)
    assert list(error.fields) == ["expected_observations"]
    missing = entry_pb2.UpdateEntryRequest(entry_id=new_uuid7())
    assert (await refused(api, "EntryService/UpdateEntry", missing, player.key)).reason == "ENTRY_NOT_FOUND"


async def test_the_session_secret_goes_to_the_entrys_owner_only(api: Api) -> None:
    made = await open_competition(api)
    player, other = await api.world.player("player1"), await api.world.player("player2")
    entry = await enter(api, await buy(api, made.id, player), player)
    for request in (
        keymeld_pb2.JoinRequest(competition_id=made.id),
        keymeld_pb2.JoinRequest(competition_id=made.id, entry_id=entry.id),
    ):
        joined = await api.call("KeymeldService/Join", request, player.key)
        secret = nip44.decrypt(player.key, joined.coordinator_pubkey, joined.encrypted_session_secret)
        assert bytes.fromhex(secret) == api.core.keys(made.id).keymeld_seed
        assert (joined.entry_id, joined.keymeld_user_id) == (entry.id, player.ticket_id)
        assert joined.keymeld_session_id == made.keygen_session_ids[0]
        error = await refused(api, "KeymeldService/Join", request, other.key)
        assert error.code == "PERMISSION_DENIED"
    elsewhere = await open_competition(api)
    request = keymeld_pb2.JoinRequest(competition_id=elsewhere.id, entry_id=entry.id)
    assert (await refused(api, "KeymeldService/Join", request, player.key)).code == "NOT_FOUND"


async def test_a_payout_before_there_is_an_outcome(api: Api) -> None:
    made = await open_competition(api)
    player, other = await api.world.player("player1"), await api.world.player("player2")
    entry = await enter(api, await buy(api, made.id, player), player)
    get = payout_pb2.GetPayoutRequest(competition_id=made.id, entry_id=entry.id)
    assert (await refused(api, "PayoutService/GetPayout", get, player.key)).reason == "NO_OUTCOME"
    assert (await refused(api, "PayoutService/GetPayout", get, other.key)).reason == "NOT_ENTRY_OWNER"
    ask = payout_pb2.RequestPayoutRequest(
        competition_id=made.id, entry_id=entry.id, payment_request="lnbcrt1"
    )
    assert (await refused(api, "PayoutService/RequestPayout", ask, player.key)).reason == "NO_OUTCOME"
    key = payout_pb2.HandOverKeyRequest(
        competition_id=made.id, entry_id=entry.id, ephemeral_private_key=player.ephemeral_secret.hex()
    )
    assert (await refused(api, "PayoutService/HandOverKey", key, player.key)).reason == "PAYOUT_NOT_PAID"


async def contract_of(api: Api, competition_id: str, *, signatures: bool = False) -> Any:
    request = competition_pb2.GetContractRequest(competition_id=competition_id, include_signatures=signatures)
    return await api.call("CompetitionService/GetContract", request)


async def state_of(api: Api, competition_id: str) -> competition_pb2.Competition:
    request = competition_pb2.GetCompetitionRequest(competition_id=competition_id)
    return (await api.call("CompetitionService/GetCompetition", request)).competition


def player_in(contract: Any, player: WorldPlayer) -> Any:
    return next(p for p in contract.players if p.entry_id == player.entry_id)


def escrow_in(public: Any) -> Escrow:
    return Escrow(
        bytes.fromhex(public.escrow_coordinator_pubkey),
        bytes.fromhex(public.ephemeral_pubkey),
        bytes.fromhex(public.ticket_hash),
    )


def release_signature(contract: Any, player: WorldPlayer) -> str:
    """What a player signs, from the public contract alone."""
    public = player_in(contract, player)
    escrow = escrow_in(public)
    coin = EscrowBatch.find(
        bytes.fromhex(contract.escrow_transaction_hex),
        public.escrow_vout,
        TicketEscrow(public.ticket_id, escrow, public.escrow_value_sats),
    )
    release = release_transaction(
        coin.outpoint,
        coin.value_sats,
        escrow,
        bytes.fromhex(contract.release_script_pubkey_hex),
        contract.release_fee_rate_sats_per_vb,
        contract.release_blocks,
    )
    signature = sign_release(
        player.ephemeral_secret, release, coin.value_sats, escrow, contract.release_blocks
    )
    return signature.hex()


def funding_signature(contract: Any, player: WorldPlayer) -> str:
    """What a player signs of the PSBT."""
    public = player_in(contract, player)
    psbt = PSBT.from_string(contract.funding_psbt)
    unsigned = Transaction.parse(psbt.tx.serialize())
    escrow = escrow_in(public)
    assert psbt.inputs[public.player_index].witness_utxo.value == public.escrow_value_sats
    sighash = escrow.sighash(unsigned, public.player_index, public.escrow_value_sats)
    return escrow.sign(player.ephemeral_secret, sighash).hex()


async def test_a_whole_competition_with_nothing_but_the_api(api: Api) -> None:
    made = await open_competition(api)
    players = [await api.world.player(f"player{number}") for number in range(3)]
    for player in players:
        await enter(api, await buy(api, made.id, player), player)
    players.sort(key=lambda player: player.ticket_id)

    async def planned() -> bool:
        try:
            await contract_of(api, made.id)
        except ApiError as error:
            if error.reason != "NO_CONTRACT":
                raise
            return False
        return True

    await until(planned)
    contract = await contract_of(api, made.id)
    assert [p.player_index for p in contract.players] == [0, 1, 2]
    assert [p.ticket_id for p in contract.players] == [player.ticket_id for player in players]
    assert (contract.parameters_json, contract.funding_psbt, contract.funding_outpoint) == ("", "", "")
    wrong = entry_pb2.SubmitSignaturesRequest(
        entry_id=players[0].entry_id, escrow_release_signature=release_signature(contract, players[1])
    )
    error = await refused(api, "EntryService/SubmitSignatures", wrong, players[0].key)
    assert list(error.fields) == ["escrow_release_signature"]
    for player in players:
        request = entry_pb2.SubmitSignaturesRequest(
            entry_id=player.entry_id, escrow_release_signature=release_signature(contract, player)
        )
        entry = (await api.call("EntryService/SubmitSignatures", request, player.key)).entry
        assert (entry.escrow_release_signed, entry.funding_signed) == (True, False)

    await api.world.wait_for(made.id, "funding_ready", mining=True)
    contract = await contract_of(api, made.id, signatures=True)
    parameters = ContractParameters.from_json(contract.parameters_json)
    assert [p.pubkey.hex() for p in parameters.players] == [p.ephemeral_pubkey for p in contract.players]
    dlc = await api.world.contracts.get(await api.core.competitions.load(made.id))
    assert {s.key for s in contract.signatures} == {job.key for job in dlc.signing_jobs()}
    keymeld = await api.call("KeymeldService/GetStatus", keymeld_pb2.GetStatusRequest(competition_id=made.id))
    assert (keymeld.keygen_status, keymeld.signing_status) == ("completed", "completed")
    assert [a.keymeld_user_id for a in keymeld.participant_approvals] == [p.ticket_id for p in players]
    assert all(a.registered for a in keymeld.participant_approvals)
    for player in players:
        request = entry_pb2.SubmitSignaturesRequest(
            entry_id=player.entry_id, funding_signature=funding_signature(contract, player)
        )
        assert (await api.call("EntryService/SubmitSignatures", request, player.key)).entry.funding_signed

    await api.world.wait_for(made.id, "awaiting_attestation", mining=True)
    funded = await state_of(api, made.id)
    assert f"{funded.transactions.funding_txid}:0" == contract.funding_outpoint
    assert funded.transactions.escrow_txid
    assert (funded.entries, funded.paid_tickets, funded.outcome, list(funded.winners)) == (3, 3, "", [])
    assert (await ticket_of(api, made.id, players[0])).state == ticket_pb2.TICKET_STATE_SETTLED

    await api.world.oracle.attest(made.id, (2, 0))
    await api.world.outcome_confirmed(made.id)
    outcome = await state_of(api, made.id)
    assert outcome.state == competition_pb2.COMPETITION_STATE_OUTCOME_BROADCASTED
    assert list(outcome.winners) == [2, 0]
    assert outcome.outcome.startswith("att")
    assert outcome.transactions.outcome_txid
    assert outcome.oracle_pubkey
    contract = await contract_of(api, made.id)
    attested = dlc.parameters.event.points[int(outcome.outcome.removeprefix("att"))]
    assert public_key(bytes.fromhex(contract.attestation)) == attested

    for index in (2, 0):
        await paid_out(api, made.id, players[index])
    loser = payout_pb2.GetPayoutRequest(competition_id=made.id, entry_id=players[1].entry_id)
    assert (await refused(api, "PayoutService/GetPayout", loser, players[1].key)).reason == "NOT_A_WINNER"
    await api.world.at_rest(made.id)
    completed = await state_of(api, made.id)
    assert completed.state == competition_pb2.COMPETITION_STATE_COMPLETED
    assert len(completed.transactions.closing_txids) == 1
    inspected = await api.call(
        "CompetitionService/InspectCompetition",
        competition_pb2.InspectCompetitionRequest(competition_id=made.id),
        ADMIN,
    )
    states = [change.state for change in inspected.history]
    assert states == sorted(states)
    assert len(states) == len(set(states)) >= 15
    for player in players:
        assert player.ephemeral_secret.hex() not in str(inspected)


async def paid_out(api: Api, competition_id: str, player: WorldPlayer) -> None:
    """A winner's way to its money."""
    get = payout_pb2.GetPayoutRequest(competition_id=competition_id, entry_id=player.entry_id)
    available = (await api.call("PayoutService/GetPayout", get, player.key)).payout
    assert available.state == payout_pb2.PAYOUT_STATE_AVAILABLE
    node = api.world.lightning[player.name]
    too_much = node.add_invoice(value_msats=(available.amount_sats + 1) * 1000)
    ask = payout_pb2.RequestPayoutRequest(
        competition_id=competition_id, entry_id=player.entry_id, payment_request=too_much.payment_request
    )
    error = await refused(api, "PayoutService/RequestPayout", ask, player.key)
    assert list(error.fields) == ["payment_request"]
    ask.payment_request = "lnbcrt1nonsense"
    error = await refused(api, "PayoutService/RequestPayout", ask, player.key)
    assert list(error.fields) == ["payment_request"]
    ask.payment_request = node.add_invoice(
        value_msats=available.amount_sats * 1000, preimage=player.payout_preimage
    ).payment_request
    await api.call("PayoutService/RequestPayout", ask, player.key)
    await api.call("PayoutService/RequestPayout", ask, player.key)  # the same again pays once

    async def paid() -> bool:
        state = (await api.call("PayoutService/GetPayout", get, player.key)).payout.state
        assert state != payout_pb2.PAYOUT_STATE_FAILED
        return bool(state == payout_pb2.PAYOUT_STATE_PAID)

    await until(paid)
    wrong = payout_pb2.HandOverKeyRequest(
        competition_id=competition_id, entry_id=player.entry_id, ephemeral_private_key="11" * 32
    )
    error = await refused(api, "PayoutService/HandOverKey", wrong, player.key)
    assert list(error.fields) == ["ephemeral_private_key"]
    wrong.ephemeral_private_key = player.ephemeral_secret.hex()
    payout = (await api.call("PayoutService/HandOverKey", wrong, player.key)).payout
    assert payout.ephemeral_key_received
    assert payout.attempts == 1


async def test_the_wallet_sends_once_per_key(api: Api) -> None:
    balance = await api.call("WalletService/GetBalance", None, ADMIN)
    assert balance.confirmed_sats == 500_000_000
    outputs = await api.call("WalletService/ListOutputs", None, ADMIN)
    assert [(o.value_sats, o.confirmed, o.locked_by) for o in outputs.outputs] == [(500_000_000, True, "")]
    address = (await api.call("WalletService/GetAddress", None, ADMIN)).address
    send = wallet_pb2.SendRequest(address=address, amount_sats=10_000, idempotency_key="once")
    first = await api.call("WalletService/Send", send, ADMIN)
    assert await api.call("WalletService/Send", send, ADMIN) == first
    send.amount_sats = 10_001
    with pytest.raises(ApiError) as error:
        await api.call("WalletService/Send", send, ADMIN)
    assert (error.value.code, error.value.reason) == ("ALREADY_EXISTS", "IDEMPOTENCY_KEY_REUSED")
    send = wallet_pb2.SendRequest(address=address, amount_sats=20_000)
    header = [("idempotency-key", "twice")]
    second = await api.call("WalletService/Send", send, ADMIN, header)
    assert await api.call("WalletService/Send", send, ADMIN, header) == second != first
    assert (await api.call("WalletService/Send", send, ADMIN)).txid != second.txid  # no key: another payment
    outputs = await api.call("WalletService/ListOutputs", None, ADMIN)
    total = sum(output.value_sats for output in outputs.outputs)
    assert total < 500_000_000
    pages: list[Any] = []
    token = ""
    while True:
        request = wallet_pb2.ListOutputsRequest(page_size=2, page_token=token)
        page = await api.call("WalletService/ListOutputs", request, ADMIN)
        pages += page.outputs
        token = page.next_page_token
        if not token:
            break
    assert pages == list(outputs.outputs)


async def test_the_wallet_refuses_what_it_cannot_send(api: Api) -> None:
    address = (await api.call("WalletService/GetAddress", None, ADMIN)).address
    mainnet = "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr"
    for request, code, field in (
        (wallet_pb2.SendRequest(address="", amount_sats=1000), "INVALID_ARGUMENT", "address"),
        (wallet_pb2.SendRequest(address=mainnet, amount_sats=1000), "INVALID_ARGUMENT", "address"),
        (wallet_pb2.SendRequest(address=address, amount_sats=0), "INVALID_ARGUMENT", "amount_sats"),
        (wallet_pb2.SendRequest(address=address, amount_sats=-1), "INVALID_ARGUMENT", "amount_sats"),
        (wallet_pb2.SendRequest(address=address, amount_sats=100), "INVALID_ARGUMENT", "amount_sats"),
        (
            wallet_pb2.SendRequest(address=address, amount_sats=1000, fee_rate_sats_per_vb=-1),
            "INVALID_ARGUMENT",
            "fee_rate_sats_per_vb",
        ),
        (
            wallet_pb2.SendRequest(address=address, amount_sats=1000, fee_rate_sats_per_vb=2**31 - 1),
            "INVALID_ARGUMENT",
            "fee_rate_sats_per_vb",
        ),
        (
            wallet_pb2.SendRequest(address=address, amount_sats=1000, idempotency_key="x" * 129),
            "INVALID_ARGUMENT",
            "idempotency_key",
        ),
        (wallet_pb2.SendRequest(address=address, amount_sats=2**62), "INVALID_ARGUMENT", "amount_sats"),
        (wallet_pb2.SendRequest(address=address, amount_sats=500_000_001), "FAILED_PRECONDITION", ""),
    ):
        with pytest.raises(ApiError) as error:
            await api.call("WalletService/Send", request, ADMIN)
        assert error.value.code == code, request
        assert list(error.value.fields) == ([field] if field else [])
    balance = await api.call("WalletService/GetBalance", None, ADMIN)
    assert (balance.confirmed_sats, balance.locked_sats) == (500_000_000, 0)
