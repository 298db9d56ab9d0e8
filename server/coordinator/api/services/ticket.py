"""TicketService."""

from __future__ import annotations

from typing import Any

from coordinator.api.call import current_caller
from coordinator.api.convert import ticket_message
from coordinator.core import Core
from coordinator.operations import tickets
from coordinator.store.models import EntryRow, TicketRow
from coordinator.v1 import ticket_pb2 as pb
from coordinator.v1.ticket_pb2_grpc import TicketServiceServicer


class TicketService(TicketServiceServicer):
    """Tickets."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def RequestTicket(self, request: pb.RequestTicketRequest, context: Any) -> pb.RequestTicketResponse:
        """See proto."""
        owner = current_caller().required()
        ticket = await tickets.request_ticket(self._core, request.competition_id, owner)
        return pb.RequestTicketResponse(ticket=await self._message(ticket))

    async def GetTicketStatus(
        self, request: pb.GetTicketStatusRequest, context: Any
    ) -> pb.GetTicketStatusResponse:
        """See proto."""
        owner = current_caller().required()
        ticket = await tickets.get_ticket(self._core, request.competition_id, request.ticket_id, owner)
        return pb.GetTicketStatusResponse(ticket=await self._message(ticket))

    async def _message(self, ticket: TicketRow) -> pb.Ticket:
        entry = await EntryRow.get_or_none(ticket_id=ticket.id)
        record = await self._core.competitions.load(ticket.competition_id)
        session_ids = record.status.facts.keygen_session_ids
        return ticket_message(ticket, entry.id if entry else "", session_ids)
