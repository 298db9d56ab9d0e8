"""The oracle's secrets, all from one seed, so that runs repeat."""

from coordinator.contract.attestation import attestation_secret
from coordinator.contract.secp import N, mul_base, scalar_bytes, tagged_hash

_TAG = "coordinator-devnet/oracle/"


class OracleKeys:
    """The key and the nonces. Secrets are derived when needed and never leave this object."""

    def __init__(self, seed: bytes) -> None:
        """Takes 32 bytes; raises ValueError for another length."""
        if len(seed) != 32:
            raise ValueError("a seed has 32 bytes")
        self._seed = seed
        self.public_key = mul_base(self._secret("key"))
        """33 bytes, compressed."""

    def nonce_point(self, event_digest: bytes) -> bytes:
        """The nonce of an event, 33 bytes. The digest covers the whole event: another one, another nonce."""
        return mul_base(self._secret("nonce", event_digest))

    def attest(self, event_digest: bytes, message: bytes) -> bytes:
        """The 32-byte attestation to a message.

        Two messages with one digest give the key away: the caller must have stored, for good, which one it
        is. Nor may a seed meet the same event again with an empty memory.
        """
        return attestation_secret(
            scalar_bytes(self._secret("key")), scalar_bytes(self._secret("nonce", event_digest)), message
        )

    def __repr__(self) -> str:
        return f"OracleKeys({self.public_key.hex()})"

    def _secret(self, purpose: str, *parts: bytes) -> int:
        return int.from_bytes(tagged_hash(_TAG + purpose, self._seed, *parts), "big") % (N - 1) + 1
