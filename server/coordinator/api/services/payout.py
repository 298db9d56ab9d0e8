"""PayoutService."""

from __future__ import annotations

from typing import Any

from coordinator.api.call import current_caller
from coordinator.api.convert import payout_message
from coordinator.contracts import ContractCache
from coordinator.core import Core
from coordinator.operations import payouts
from coordinator.v1 import payout_pb2 as pb
from coordinator.v1.payout_pb2_grpc import PayoutServiceServicer


class PayoutService(PayoutServiceServicer):
    """Payouts."""

    def __init__(self, core: Core, contracts: ContractCache) -> None:
        self._core = core
        self._contracts = contracts

    async def RequestPayout(self, request: pb.RequestPayoutRequest, context: Any) -> pb.RequestPayoutResponse:
        """See proto."""
        payout = await payouts.request_payout(
            self._core,
            self._contracts,
            request.competition_id,
            request.entry_id,
            request.payment_request,
            request.payout_preimage,
            request.ephemeral_private_key,
            current_caller().required(),
        )
        return pb.RequestPayoutResponse(payout=payout_message(payout))

    async def GetPayout(self, request: pb.GetPayoutRequest, context: Any) -> pb.GetPayoutResponse:
        """See proto."""
        payout = await payouts.get_payout(
            self._core,
            self._contracts,
            request.competition_id,
            request.entry_id,
            current_caller().required(),
        )
        return pb.GetPayoutResponse(payout=payout_message(payout))

    async def HandOverKey(self, request: pb.HandOverKeyRequest, context: Any) -> pb.HandOverKeyResponse:
        """See proto."""
        payout = await payouts.hand_over_key(
            self._core,
            request.competition_id,
            request.entry_id,
            request.ephemeral_private_key,
            current_caller().required(),
        )
        return pb.HandOverKeyResponse(payout=payout_message(payout))
