"""KeymeldService."""

from __future__ import annotations

from typing import Any

from coordinator.api.call import current_caller
from coordinator.api.convert import timestamp
from coordinator.api.paging import page_size, page_token, position_of
from coordinator.contracts import ContractCache
from coordinator.core import Core
from coordinator.operations import keymeld
from coordinator.v1 import keymeld_pb2 as pb
from coordinator.v1.keymeld_pb2_grpc import KeymeldServiceServicer

# A session has up to 100 items.
_SESSIONS = 20
_MOST_SESSIONS = 50


class KeymeldService(KeymeldServiceServicer):
    """keymeld sessions of a competition."""

    def __init__(self, core: Core, contracts: ContractCache) -> None:
        self._core = core
        self._sessions = keymeld.SigningSessions(core, contracts)

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
                    missing=participant.missing,
                )
                for participant in progress.participants
            ],
            batches_done=progress.batches_done,
            batches_total=progress.batches_total,
            started_at=timestamp(progress.started_at),
            deadline_at=timestamp(progress.deadline_at),
            approval_required=progress.approval_required,
        )

    async def ListSigningSessions(
        self, request: pb.ListSigningSessionsRequest, context: Any
    ) -> pb.ListSigningSessionsResponse:
        """See proto."""
        size = min(page_size(request.page_size or _SESSIONS), _MOST_SESSIONS)
        scope = f"signing_sessions:{request.competition_id}"
        after, _ = position_of(scope, request.page_token) or (0, "")
        found = await self._sessions.list(
            request.competition_id, current_caller().required(), after_sequence=after, limit=size + 1
        )
        page = found[:size]
        return pb.ListSigningSessionsResponse(
            sessions=[_session(asked) for asked in page],
            next_page_token=page_token(scope, (page[-1].sequence, "")) if len(found) > size else "",
        )


def _session(asked: keymeld.AskedSession) -> pb.SigningSession:
    return pb.SigningSession(
        signing_session_id=asked.signing_session_id,
        keygen_session_id=asked.keygen_session_id,
        batch=asked.batch,
        attempt=asked.attempt,
        items=[
            pb.SigningItem(
                batch_item_id=item.batch_item_id,
                key=item.job.key,
                sighash=item.job.message.hex(),
                adaptor_point=(item.job.adaptor_point or b"").hex(),
                subset_id=item.subset_id or "",
            )
            for item in asked.items
        ],
    )
