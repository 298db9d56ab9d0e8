"""The contract in public, as `CompetitionService.GetContract` shows it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from coordinator.api import convert
from coordinator.api.kept import Kept
from coordinator.contract_message import signatures_message
from coordinator.contracts import ContractCache
from coordinator.core import Core
from coordinator.domain.competition import EscrowPlan
from coordinator.domain.contracts import rebuild_funding
from coordinator.domain.errors import PreconditionFailed
from coordinator.domain.states import CONTRACTED, CompetitionStatus, Contracted
from coordinator.store.competitions import CompetitionRecord
from coordinator.store.contract_store import load_packed
from coordinator.v1 import competition_pb2 as pb
from coordinator.wallet import to_wallet_coin

# Each may have megabytes.
_KEPT = 8


@dataclass(frozen=True, slots=True)
class _Fixed:
    """What a contract has from its creation on."""

    parameters_json: str
    funding_psbt: str


class ContractView:
    """Public contracts. Anybody may ask for one at any time, so each is put together once."""

    def __init__(self, core: Core, contracts: ContractCache) -> None:
        self._core = core
        self._contracts = contracts
        self._fixed: Kept[_Fixed] = Kept(_KEPT)
        self._signatures: Kept[bytes] = Kept(_KEPT)

    async def of(self, record: CompetitionRecord, *, include_signatures: bool) -> pb.GetContractResponse:
        """The contract of a competition as far as it goes.

        Raises:
            PreconditionFailed: not even its escrow transaction is decided.
        """
        status = record.status
        escrow = _escrow_of(status)
        if escrow is None:
            raise PreconditionFailed(
                f"there is no contract yet: the competition is {status.name}", reason="NO_CONTRACT"
            )
        response = _escrowed(status, escrow)
        if isinstance(status, CONTRACTED):
            contracted = status
            fixed = await self._fixed.get(status.funding.txid, lambda: self._make_fixed(contracted))
            response.parameters_json = fixed.parameters_json
            response.funding_psbt = fixed.funding_psbt
            response.funding_outpoint = f"{status.funding.txid}:0"
            if include_signatures and isinstance(status, convert.SIGNED):
                response.MergeFromString(
                    await self._signatures.get(record.id, lambda: self._load_signatures(contracted))
                )
        return response

    async def _make_fixed(self, status: Contracted) -> _Fixed:
        dlc = await self._contracts.of(status)
        parameters_json = await self._core.workers.run_sized(dlc.outcome_count, dlc.parameters.to_json)
        return _Fixed(parameters_json, await asyncio.to_thread(self._funding_psbt, status))

    def _funding_psbt(self, status: Contracted) -> str:
        keys = self._core.wallet.keys
        funding = rebuild_funding(status, [to_wallet_coin(coin, keys) for coin in status.funding.coins])
        return str(funding.psbt().to_string())  # type: ignore[no-untyped-call]

    async def _load_signatures(self, status: Contracted) -> bytes:
        dlc = await self._contracts.of(status)
        packed = await load_packed(status.facts.competition_id)
        if packed is None:
            raise RuntimeError(f"the signatures of {status.facts.competition_id} are not in the store")
        return await self._core.workers.run_sized(dlc.job_count, signatures_message, packed)


def _escrow_of(status: CompetitionStatus) -> EscrowPlan | None:
    return None if isinstance(status, convert.OPEN) else status.escrow


def _escrowed(status: CompetitionStatus, escrow: EscrowPlan) -> pb.GetContractResponse:
    return pb.GetContractResponse(
        players=[
            pb.ContractPlayer(
                player_index=index,
                ticket_id=player.ticket_id,
                entry_id=player.entry_id,
                ephemeral_pubkey=player.ephemeral_pubkey.hex(),
                ticket_hash=player.ticket_hash.hex(),
                payout_hash=player.payout_hash.hex(),
                escrow_coordinator_pubkey=player.escrow_coordinator_pubkey.hex(),
                escrow_vout=index,
                escrow_value_sats=escrow.escrow_value_sats,
            )
            for index, player in enumerate(convert.roster_of(status))
        ],
        escrow_transaction_hex=escrow.transaction.hex(),
        release_script_pubkey_hex=escrow.release_script_pubkey.hex(),
        release_fee_rate_sats_per_vb=escrow.release_fee_rate_sats_per_vb,
        release_blocks=escrow.release_blocks,
        attestation=convert.attestation_of(status).hex(),
    )
