"""CompetitionService."""

from __future__ import annotations

import importlib.metadata
import json
from typing import Any

from coordinator.api import convert
from coordinator.api.call import current_call
from coordinator.api.paging import page_size, page_token, position_of
from coordinator.api.services.contract_view import ContractView
from coordinator.contracts import ContractCache
from coordinator.core import Core
from coordinator.domain.errors import FieldViolation, InvalidInput
from coordinator.domain.ids import check_uuid7
from coordinator.operations import competitions, listing
from coordinator.operations.leaderboard import Leaderboards
from coordinator.ports.lightning import LightningError
from coordinator.store.alerts import standing_warnings
from coordinator.store.competitions import CompetitionRecord
from coordinator.store.events import last_sequence
from coordinator.v1 import competition_pb2 as pb
from coordinator.v1.competition_pb2_grpc import CompetitionServiceServicer

# The protobuf Timestamp's own range: years 1 to 9999.
_MAX_TIMESTAMP_SECONDS = 253_402_300_799


class CompetitionService(CompetitionServiceServicer):
    """Competitions."""

    def __init__(self, core: Core, contracts: ContractCache) -> None:
        self._core = core
        self._contract_view = ContractView(core, contracts)
        self._leaderboards = Leaderboards(core)
        self._lightning_pubkey = ""

    async def GetCoordinator(
        self, request: pb.GetCoordinatorRequest, context: Any
    ) -> pb.GetCoordinatorResponse:
        """See proto."""
        core = self._core
        warnings = list(dict.fromkeys([*core.oracle.warnings, *await standing_warnings()]))
        if not self._lightning_pubkey:
            try:
                self._lightning_pubkey = (await core.lightning.info()).pubkey
            except LightningError:
                warnings.append("the Lightning node does not answer: no ticket can be paid now")
        return pb.GetCoordinatorResponse(
            nostr_pubkey=core.nostr_key.public_hex,
            nostr_npub=core.nostr_key.npub,
            network=core.settings.network.value,
            keymeld_url=core.settings.keymeld_public_url,
            oracle_url=core.settings.oracle_public_url,
            esplora_url=core.settings.esplora_public_url,
            lightning_pubkey=self._lightning_pubkey,
            server_time=convert.timestamp(core.clock.now()),
            version=importlib.metadata.version("coordinator"),
            warnings=warnings,
        )

    async def CreateCompetition(
        self, request: pb.CreateCompetitionRequest, context: Any
    ) -> pb.CreateCompetitionResponse:
        """See proto."""
        _check_times(request.terms)
        record = await competitions.create_competition(
            self._core, request.id or current_call().server_chosen_id, convert.terms_from(request.terms)
        )
        return pb.CreateCompetitionResponse(competition=await self._message(record))

    async def GetCompetition(
        self, request: pb.GetCompetitionRequest, context: Any
    ) -> pb.GetCompetitionResponse:
        """See proto."""
        record = await self._load(request.competition_id)
        return pb.GetCompetitionResponse(competition=await self._message(record))

    async def ListCompetitions(
        self, request: pb.ListCompetitionsRequest, context: Any
    ) -> pb.ListCompetitionsResponse:
        """See proto."""
        limit = page_size(request.page_size)
        states = _state_names(request)
        scope = f"competitions:{','.join(sorted(states))}"
        after = position_of(scope, request.page_token)
        # Read before the page: what happens meanwhile is told again rather than lost.
        sequence = await last_sequence()
        records = await listing.list_competitions(states, limit + 1, after)
        page = records[:limit]
        counts = await listing.counts_of([record.id for record in page])
        last = page[-1].status.facts if len(records) > limit else None
        return pb.ListCompetitionsResponse(
            competitions=[convert.competition_message(record, counts[record.id]) for record in page],
            next_page_token=page_token(scope, (last.created_at, last.competition_id)) if last else "",
            sequence=sequence,
        )

    async def GetContract(self, request: pb.GetContractRequest, context: Any) -> pb.GetContractResponse:
        """See proto."""
        record = await self._load(request.competition_id)
        return await self._contract_view.of(record, include_signatures=request.include_signatures)

    async def GetLeaderboard(
        self, request: pb.GetLeaderboardRequest, context: Any
    ) -> pb.GetLeaderboardResponse:
        """See proto."""
        board = await self._leaderboards.of(await self._load(request.competition_id))
        return pb.GetLeaderboardResponse(
            rows=[
                pb.LeaderboardRow(
                    rank=row.rank,
                    entry_id=row.entry_id,
                    ticket_id=row.ticket_id,
                    player_index=row.player_index,
                    owner_pubkey=row.owner_pubkey,
                    points=row.points,
                    score=row.score,
                )
                for row in board.rows
            ],
            final=board.final,
        )

    async def CancelCompetition(
        self, request: pb.CancelCompetitionRequest, context: Any
    ) -> pb.CancelCompetitionResponse:
        """See proto."""
        record = await competitions.cancel_competition(self._core, request.competition_id, request.reason)
        return pb.CancelCompetitionResponse(competition=await self._message(record))

    async def PauseCompetition(
        self, request: pb.PauseCompetitionRequest, context: Any
    ) -> pb.PauseCompetitionResponse:
        """See proto."""
        record = await competitions.pause_competition(self._core, request.competition_id, request.paused)
        return pb.PauseCompetitionResponse(competition=await self._message(record))

    async def RetryCompetition(
        self, request: pb.RetryCompetitionRequest, context: Any
    ) -> pb.RetryCompetitionResponse:
        """See proto."""
        record = await competitions.retry_competition(self._core, request.competition_id)
        return pb.RetryCompetitionResponse(competition=await self._message(record))

    async def InspectCompetition(
        self, request: pb.InspectCompetitionRequest, context: Any
    ) -> pb.InspectCompetitionResponse:
        """See proto."""
        inspection = await competitions.inspect_competition(self._core, request.competition_id)
        record = inspection.record
        return pb.InspectCompetitionResponse(
            competition=await self._message(record),
            state_json=json.dumps(inspection.state, separators=(",", ":")),
            last_error=record.last_error,
            failed_attempts=record.failed_attempts,
            next_attempt_at=convert.timestamp(record.next_attempt_at),
            history=[
                pb.StateChange(
                    sequence=row.sequence,
                    state=convert.state_of(row.state_name),
                    occurred_at=convert.timestamp(row.occurred_at),
                )
                for row in inspection.history
            ],
            intents=[
                pb.Intent(
                    key=intent.key,
                    status=intent.status,
                    created_at=convert.timestamp(intent.created_at),
                    attempted_at=convert.timestamp(intent.attempted_at),
                )
                for intent in inspection.intents
            ],
        )

    async def _load(self, competition_id: str) -> CompetitionRecord:
        check_uuid7("competition_id", competition_id)
        return await self._core.competitions.load(competition_id)

    async def _message(self, record: CompetitionRecord) -> pb.Competition:
        counts = await listing.counts_of([record.id])
        return convert.competition_message(record, counts[record.id])


def _state_names(request: pb.ListCompetitionsRequest) -> list[str]:
    known = pb.CompetitionState.values()
    wrong = [
        FieldViolation(f"states[{index}]", "is no state of a competition")
        for index, state in enumerate(request.states)
        if state not in known or state == pb.COMPETITION_STATE_UNSPECIFIED
    ]
    if wrong:
        raise InvalidInput(wrong)
    return [convert.state_name(state) for state in request.states]


def _check_times(terms: pb.CompetitionTerms) -> None:
    """Times that are missing, or that no calendar has; whether they make sense is for the terms to say."""
    wrong = []
    for field in ("start_observation_at", "end_observation_at", "signing_at"):
        if not terms.HasField(field):
            wrong.append(FieldViolation(f"terms.{field}", "is missing"))
        elif not 0 <= getattr(terms, field).seconds <= _MAX_TIMESTAMP_SECONDS:
            wrong.append(FieldViolation(f"terms.{field}", "is no time between 1970 and 9999"))
    if wrong:
        raise InvalidInput(wrong)
