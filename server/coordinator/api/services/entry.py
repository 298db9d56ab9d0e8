"""EntryService."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from coordinator.api.call import current_call, current_caller
from coordinator.api.convert import entry_message, observations_from, scored_prediction
from coordinator.api.paging import page_size, page_token, position_of
from coordinator.core import Core
from coordinator.operations import entries, listing
from coordinator.operations.entries import EnclaveCiphertext, KeymeldRegistration, NewEntry
from coordinator.operations.leaderboard import Leaderboards
from coordinator.ports.oracle import OracleError
from coordinator.store.models import EntryRow
from coordinator.v1 import entry_pb2 as pb
from coordinator.v1.entry_pb2_grpc import EntryServiceServicer


class EntryService(EntryServiceServicer):
    """Entries."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._leaderboards = Leaderboards(core)

    async def CreateEntry(self, request: pb.CreateEntryRequest, context: Any) -> pb.CreateEntryResponse:
        """See proto."""
        new = _new_entry(request.entry, current_call().server_chosen_id)
        entry = await entries.create_entry(self._core, new, current_caller().required())
        return pb.CreateEntryResponse(entry=await self._message(entry))

    async def UpdateEntry(self, request: pb.UpdateEntryRequest, context: Any) -> pb.UpdateEntryResponse:
        """See proto."""
        entry = await entries.update_entry(
            self._core,
            request.entry_id,
            observations_from(request.expected_observations),
            current_caller().required(),
        )
        return pb.UpdateEntryResponse(entry=await self._message(entry))

    async def GetEntry(self, request: pb.GetEntryRequest, context: Any) -> pb.GetEntryResponse:
        """See proto."""
        entry = await entries.find_entry(request.entry_id)
        message = await self._message(entry)
        record = await self._core.competitions.load(entry.competition_id)
        # Without the oracle's answer the entry is shown all the same.
        with suppress(OracleError):
            scored = await self._leaderboards.predictions(record, entry)
            message.scored_predictions.extend(map(scored_prediction, scored))
        return pb.GetEntryResponse(entry=message)

    async def ListEntries(self, request: pb.ListEntriesRequest, context: Any) -> pb.ListEntriesResponse:
        """See proto."""
        limit = page_size(request.page_size)
        if request.competition_id:
            scope = f"entries:{request.competition_id}"
            after = position_of(scope, request.page_token)
            found = await listing.entries_of_competition(self._core, request.competition_id, limit + 1, after)
        else:
            owner = current_caller().required()
            scope = f"own entries:{owner}"
            after = position_of(scope, request.page_token)
            found = await listing.entries_of_owner(owner, limit + 1, after)
        page = found[:limit]
        records = await listing.records_of([entry.competition_id for entry in page])
        viewer = current_caller().pubkey
        more = len(found) > limit
        return pb.ListEntriesResponse(
            entries=[entry_message(entry, records[entry.competition_id].status, viewer) for entry in page],
            next_page_token=page_token(scope, (page[-1].created_at, page[-1].id)) if more else "",
        )

    async def SubmitSignatures(
        self, request: pb.SubmitSignaturesRequest, context: Any
    ) -> pb.SubmitSignaturesResponse:
        """See proto."""
        entry = await entries.submit_signatures(
            self._core,
            request.entry_id,
            request.escrow_release_signature,
            request.funding_signature,
            current_caller().required(),
        )
        return pb.SubmitSignaturesResponse(entry=await self._message(entry))

    async def _message(self, entry: EntryRow) -> pb.Entry:
        record = await self._core.competitions.load(entry.competition_id)
        return entry_message(entry, record.status, current_caller().pubkey)


def _new_entry(message: pb.Entry, server_chosen_id: str) -> NewEntry:
    return NewEntry(
        id=message.id or server_chosen_id,
        ticket_id=message.ticket_id,
        competition_id=message.competition_id,
        expected_observations=observations_from(message.expected_observations),
        ephemeral_pubkey=message.ephemeral_pubkey,
        payout_hash=message.payout_hash,
        ephemeral_private_key_encrypted=message.ephemeral_private_key_encrypted,
        payout_preimage_encrypted=message.payout_preimage_encrypted,
        keymeld=KeymeldRegistration(
            auth_pubkeys=dict(message.keymeld.auth_pubkeys),
            ciphertexts=tuple(
                EnclaveCiphertext(c.enclave_id, c.key_epoch, c.encrypted_private_key)
                for c in message.keymeld.ciphertexts
            ),
            require_signing_approval=message.keymeld.require_signing_approval,
        ),
    )
