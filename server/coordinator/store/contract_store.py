"""Signed contracts in the store, as `contract.storage` packs them."""

from __future__ import annotations

import asyncio

from coordinator.contract import storage
from coordinator.contract.dlc import ContractSignatures, TicketedDLC
from coordinator.domain.competition import Announcement
from coordinator.store.models import ContractRow


async def save_contract(
    competition_id: str, dlc: TicketedDLC, signatures: ContractSignatures, announcement: Announcement
) -> None:
    """Stores a contract whose signatures were verified; repeating it replaces the same content."""
    oracle = storage.OracleCommitment(announcement.oracle_pubkey, announcement.nonce_point)
    packed = await asyncio.to_thread(storage.dump, dlc, signatures, oracle)
    await ContractRow.update_or_create(competition_id=competition_id, defaults={"packed": packed})


async def load_packed(competition_id: str) -> bytes | None:
    """The packed contract, as the recovery tool reads it; None before signing is complete."""
    row = await ContractRow.get_or_none(competition_id=competition_id)
    return None if row is None else bytes(row.packed)


async def load_signatures(competition_id: str) -> ContractSignatures | None:
    """All signatures, verified again; None before signing is complete."""
    packed = await load_packed(competition_id)
    if packed is None:
        return None
    _, signatures = await asyncio.to_thread(storage.load, packed)
    return signatures
