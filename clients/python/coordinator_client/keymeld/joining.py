"""A player that registers its key with keymeld itself, instead of leaving that to the coordinator."""

from __future__ import annotations

import asyncio

from coordinator_client.agreement import Agreement, PlayerSecrets
from coordinator_client.rest import RestClient

from .approval import check_alive
from .client import KeymeldClient, backoff
from .crypto import SessionCredentials, UserCredentials
from .errors import KeymeldConflict, KeymeldUnknownSession


async def register_keys(
    rest: RestClient,
    keymeld: KeymeldClient,
    agreement: Agreement,
    secrets: PlayerSecrets,
    credentials: SessionCredentials,
) -> None:
    """Puts the key into each keygen session once it is there, until the keys of all players are made.

    The key signs nothing that the player does not approve. A place that is taken already was taken by this
    player before an interruption, or by somebody who cannot have its key: then the aggregate keys are not the
    contract's, and nobody signs the funding.

    Args:
        rest: of the coordinator.
        keymeld: the service.
        agreement: made at the ticket.
        secrets: the player's.
        credentials: of the session secret.

    Raises:
        SigningEnded: the competition ended before.
    """
    user = UserCredentials(secrets.ephemeral_secret)
    left = set(agreement.keygen_session_ids)
    for delay in backoff(first_seconds=0.2, longest_seconds=5.0):
        status = await rest.keymeld_status(agreement.competition_id)
        if status.keygen_status == "completed":
            return
        if status.keygen_status == "collecting_participants":
            for session_id in sorted(left):
                try:
                    await keymeld.register_own_key(
                        session_id,
                        credentials,
                        user,
                        user_id=agreement.ticket_id,
                        require_signing_approval=True,
                    )
                except KeymeldUnknownSession:
                    continue  # not set up yet, or not needed for as many players as there are
                except KeymeldConflict:
                    pass
                left.discard(session_id)
        await check_alive(rest, agreement.competition_id)
        await asyncio.sleep(delay)
