"""KeymeldService."""

from __future__ import annotations

from typing import Any

from coordinator.api.call import current_caller
from coordinator.api.convert import timestamp
from coordinator.core import Core
from coordinator.operations import keymeld
from coordinator.v1 import keymeld_pb2 as pb
from coordinator.v1.keymeld_pb2_grpc import KeymeldServiceServicer


class KeymeldService(KeymeldServiceServicer):
    """keymeld sessions of a competition."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def Join(self, request: pb.JoinRequest, context: Any) -> pb.JoinResponse:
        """See proto."""
        joined = await keymeld.join(
            self._core, request.competition_id, request.entry_id, current_caller().required()
        )
        return pb.JoinResponse(
            entry_id=joined.entry_id,
            keymeld_user_id=joined.user_id,
            keymeld_session_id=joined.session_ids[0],
            encrypted_session_secret=joined.encrypted_session_secret,
            keymeld_session_ids=joined.session_ids,
            coordinator_pubkey=self._core.nostr_key.public_hex,
        )

    async def GetStatus(self, request: pb.GetStatusRequest, context: Any) -> pb.GetStatusResponse:
        """See proto."""
        progress = await keymeld.progress(self._core, request.competition_id)
        return pb.GetStatusResponse(
            keygen_status=progress.keygen_status,
            signing_status=progress.signing_status,
            participant_approvals=[
                pb.ParticipantApproval(
                    keymeld_user_id=participant.user_id,
                    entry_id=participant.entry_id,
                    registered=participant.registered,
                    approval_required=participant.approval_required,
                    approved=participant.approved,
                )
                for participant in progress.participants
            ],
            batches_done=progress.batches_done,
            batches_total=progress.batches_total,
            started_at=timestamp(progress.started_at),
            deadline_at=timestamp(progress.deadline_at),
        )
