"""WalletService."""

from __future__ import annotations

from typing import Any

from coordinator.api.call import current_call
from coordinator.api.paging import page_size, page_token, position_of
from coordinator.core import Core
from coordinator.operations import wallet
from coordinator.v1 import wallet_pb2 as pb
from coordinator.v1.wallet_pb2_grpc import WalletServiceServicer

_OUTPUTS = "outputs"


class WalletService(WalletServiceServicer):
    """The coordinator's wallet."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def GetBalance(self, request: pb.GetBalanceRequest, context: Any) -> pb.GetBalanceResponse:
        """See proto."""
        balances = await wallet.balances(self._core)
        return pb.GetBalanceResponse(
            confirmed_sats=balances.on_chain.confirmed_sats,
            unconfirmed_sats=balances.on_chain.unconfirmed_sats,
            locked_sats=balances.on_chain.locked_sats,
            lightning_sats=balances.lightning_sats,
        )

    async def GetAddress(self, request: pb.GetAddressRequest, context: Any) -> pb.GetAddressResponse:
        """See proto."""
        return pb.GetAddressResponse(address=await self._core.wallet.receive_address())

    async def ListOutputs(self, request: pb.ListOutputsRequest, context: Any) -> pb.ListOutputsResponse:
        """See proto."""
        limit = page_size(request.page_size)
        after = position_of(_OUTPUTS, request.page_token)
        outputs = await wallet.list_outputs(self._core)
        if after is not None:
            outputs = [output for output in outputs if (output.txid, output.vout) > (after[1], after[0])]
        page = outputs[:limit]
        more = len(outputs) > limit
        return pb.ListOutputsResponse(
            outputs=[
                pb.WalletOutput(
                    txid=output.txid,
                    vout=output.vout,
                    value_sats=output.value_sats,
                    address=output.address,
                    confirmed=output.confirmed,
                    locked_by=output.locked_by,
                    label=output.label,
                )
                for output in page
            ],
            next_page_token=page_token(_OUTPUTS, (page[-1].vout, page[-1].txid)) if more else "",
        )

    async def Send(self, request: pb.SendRequest, context: Any) -> pb.SendResponse:
        """See proto."""
        txid, fee_sats = await wallet.send(
            self._core,
            request.address,
            request.amount_sats,
            request.fee_rate_sats_per_vb,
            request.idempotency_key or current_call().idempotency_key or "",
        )
        return pb.SendResponse(txid=txid, fee_sats=fee_sats)

    async def GetEstimatedFees(
        self, request: pb.GetEstimatedFeesRequest, context: Any
    ) -> pb.GetEstimatedFeesResponse:
        """See proto."""
        return pb.GetEstimatedFeesResponse(sats_per_vb_by_target_blocks=await wallet.fee_rates(self._core))
