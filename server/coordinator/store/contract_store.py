"""Signed contracts in the store, as `contract.storage` packs them."""

from __future__ import annotations

import asyncio

from coordinator.contract import storage
from coordinator.contract.dlc import ContractSignatures, TicketedDLC
from coordinator.domain.competition import Announcement
from coordinator.store.models import ContractRow


def pack_verified(dlc: TicketedDLC, signatures: ContractSignatures, announcement: Announcement) -> bytes:
    """A contract as it is stored, every signature of it verified. Costs seconds for large fields.

    Raises:
        InvalidSignature: one is missing or does not verify, or there is one too many.
    """
    dlc.verify_signatures(signatures)
    oracle = storage.OracleCommitment(announcement.oracle_pubkey, announcement.nonce_point)
    return storage.dump(dlc, signatures, oracle)


async def save_packed(competition_id: str, packed: bytes) -> None:
    """Stores what `pack_verified` made; repeating it replaces the same content."""
    await ContractRow.update_or_create(competition_id=competition_id, defaults={"packed": packed})


async def load_packed(competition_id: str) -> bytes | None:
    """The packed contract, as the recovery tool reads it; None before signing is complete."""
    row = await ContractRow.get_or_none(competition_id=competition_id)
    return None if row is None else bytes(row.packed)


async def load_outcome(competition_id: str, dlc: TicketedDLC, outcome: str) -> ContractSignatures | None:
    """The signatures that an outcome needs, verified again; None before signing is complete.

    Raises:
        CorruptContract: what is stored is damaged, or another contract's.
        InvalidSignature: one of them does not verify.
    """
    packed = await load_packed(competition_id)
    if packed is None:
        return None
    return await asyncio.to_thread(storage.load_outcome, packed, dlc, outcome)
