"""The large part of `CompetitionService.GetContract`: tens of thousands of messages, for a worker to make."""

from __future__ import annotations

from coordinator.contract.storage import load_unverified
from coordinator.v1 import competition_pb2 as pb


def signatures_message(packed: bytes) -> bytes:
    """A serialised `GetContractResponse` of nothing but the signatures of a stored contract.

    Who asks verifies what he uses; that they are what was verified and stored, the checksum says.

    Raises:
        CorruptContract: what is stored is damaged.
    """
    _, signatures = load_unverified(packed)
    if signatures is None:
        return b""
    message = pb.GetContractResponse(
        signatures=[
            pb.ContractSignature(key=key, signature=signature)
            for part in (signatures.outcome, signatures.split)
            for key, signature in part.items()
        ]
    )
    return message.SerializeToString()
