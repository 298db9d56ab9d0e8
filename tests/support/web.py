"""A core in memory whose competitions live: what the browser app is tried against, behind a real gateway."""

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from google.protobuf.message import Message

from coordinator.v1 import competition_pb2, event_pb2
from support.gateway import MemoryCore, StoredEvent

LIST = "/coordinator.v1.CompetitionService/ListCompetitions"
GET = "/coordinator.v1.CompetitionService/GetCompetition"
COORDINATOR = "/coordinator.v1.CompetitionService/GetCoordinator"
EXPLORER = "http://127.0.0.1:9/explorer"


def competition_id(number: int) -> str:
    """Ids in order of time, as UUIDv7."""
    return f"01980000-0000-7000-8000-{number:012x}"


def state_value(name: str) -> competition_pb2.CompetitionState:
    return competition_pb2.CompetitionState.Value(f"COMPETITION_STATE_{name.upper()}")


class LivingCore(MemoryCore):
    """Keeps competitions as the real core does: each event changes one, both in the same moment."""

    def __init__(self, esplora_url: str = EXPLORER) -> None:
        super().__init__()
        self.answers[COORDINATOR] = competition_pb2.GetCoordinatorResponse(
            network="regtest", version="1.2.3", esplora_url=esplora_url
        )

    async def announce(self, number: int, name: str, **terms: Any) -> str:
        """A new competition; its id."""
        start = datetime.now(UTC) + timedelta(hours=30)
        competition = competition_pb2.Competition(
            id=competition_id(number),
            state=competition_pb2.COMPETITION_STATE_CREATED,
            terms=competition_pb2.CompetitionTerms(
                **{
                    "name": name,
                    "entry_fee_sats": 10_000,
                    "coordinator_fee_percent": 5,
                    "total_allowed_entries": 4,
                    "min_entries": 2,
                    "number_of_places_win": 1,
                    "number_of_values_per_entry": 2,
                    "locations": ["KORD", "KSEA"],
                    "scoring_fields": ["temp_high", "wind_speed"],
                    "relative_locktime_blocks": 144,
                    "fee_rate_sats_per_vb": 2,
                }
                | terms
            ),
        )
        competition.created_at.GetCurrentTime()
        competition.terms.start_observation_at.FromDatetime(start)
        competition.terms.end_observation_at.FromDatetime(start + timedelta(days=1))
        competition.terms.signing_at.FromDatetime(start + timedelta(days=1, hours=1))
        self.competitions[competition.id] = competition
        await self.happen(competition.id, "competition.created", {"name": name}, state="created")
        return competition.id

    async def happen(
        self, id_: str, kind: str, data: dict[str, Any] | None = None, state: str = "", **changes: Any
    ) -> int:
        """Appends an event of a competition, which from then on has these fields; the event's sequence."""
        competition = self.competitions[id_]
        event = event_pb2.Event(sequence=self.head + 1, competition_id=id_, kind=kind)
        event.occurred_at.GetCurrentTime()
        event.data.update(data or {})
        if state:
            competition.state = state_value(state)
            competition.state_changed_at.CopyFrom(event.occurred_at)
        event.state = competition.state
        competition.sequence = event.sequence
        competition.MergeFrom(competition_pb2.Competition(**changes))
        self.log.append(StoredEvent(event))
        async with self._changed:
            self._changed.notify_all()
        return event.sequence

    async def advance(self, id_: str, *states: str, **changes: Any) -> None:
        """Steps through states."""
        for state in states:
            before = competition_pb2.CompetitionState.Name(self.competitions[id_].state)
            data = {"from": before.removeprefix("COMPETITION_STATE_").lower(), "to": state}
            await self.happen(id_, "competition.state_changed", data, state=state, **changes)

    def handler(self, method: Any) -> grpc.RpcMethodHandler:
        """As the parent's, but competitions are found or not, and come in pages."""
        inner = super().handler(method)
        answer = {"GetCompetition": self._get, "ListCompetitions": self._list}.get(method.name)
        if answer is None:
            return inner

        async def handle(request: Any, context: grpc.aio.ServicerContext) -> Message:
            message = answer(request)
            if message is None:
                await context.abort(grpc.StatusCode.NOT_FOUND, "no competition has this id")
            self.answers[f"/{method.containing_service.full_name}/{method.name}"] = message
            return await inner.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            handle,
            request_deserializer=inner.request_deserializer,
            response_serializer=inner.response_serializer,
        )

    def _get(self, request: competition_pb2.GetCompetitionRequest) -> Message | None:
        found = self.competitions.get(request.competition_id)
        return None if found is None else competition_pb2.GetCompetitionResponse(competition=found)

    def _list(self, request: competition_pb2.ListCompetitionsRequest) -> Message:
        newest_first = sorted(self.competitions.values(), key=lambda c: c.id, reverse=True)
        chosen = [c for c in newest_first if not request.states or c.state in request.states]
        start = int(request.page_token or 0)
        end = start + (request.page_size or 50)
        return competition_pb2.ListCompetitionsResponse(
            competitions=chosen[start:end],
            next_page_token=str(end) if end < len(chosen) else "",
            sequence=self.head,
        )
