"""The coordinator's keys of one competition, all derived from its master seed: nothing to store, nothing to
lose.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from coordinator.contract.secp import public_key


def derive_key(master: bytes, *path: str) -> bytes:
    """32 bytes derived from the master seed for one purpose (HKDF-SHA256, RFC 5869).

    As a secp256k1 secret it is invalid with probability 2^-128; callers need not handle that.
    """
    return HKDF(SHA256(), 32, None, ("coordinator/v1/" + "/".join(path)).encode()).derive(master)


@dataclass(frozen=True, slots=True, repr=False)
class CompetitionKeys:
    """Secrets of one competition. Its repr shows none."""

    master: bytes
    competition_id: str

    def __repr__(self) -> str:
        return f"CompetitionKeys({self.competition_id})"

    @property
    def market_maker_secret(self) -> bytes:
        """The coordinator's key in the contract."""
        return derive_key(self.master, "market-maker", self.competition_id)

    @property
    def market_maker_pubkey(self) -> bytes:
        """33 bytes."""
        return public_key(self.market_maker_secret)

    @property
    def keymeld_seed(self) -> bytes:
        """The session secret that all players of the competition share."""
        return derive_key(self.master, "keymeld-seed", self.competition_id)

    def escrow_secret(self, ticket_id: str) -> bytes:
        """The coordinator's key in one ticket's escrow."""
        return derive_key(self.master, "escrow", ticket_id)

    def escrow_pubkey(self, ticket_id: str) -> bytes:
        """33 bytes."""
        return public_key(self.escrow_secret(ticket_id))
