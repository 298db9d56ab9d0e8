"""Who calls: Nostr keys, replay protection for NIP-98 events, and login sessions."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

from tortoise.exceptions import IntegrityError

from coordinator.core import Core
from coordinator.domain.errors import Unauthenticated
from coordinator.store.models import AuthEventRow, SessionRow, UserRow


@dataclass(frozen=True, slots=True)
class Session:
    """A login. The token is shown once and never stored."""

    token: str
    expires_at: int

    def __repr__(self) -> str:
        return f"Session(expires_at={self.expires_at})"


async def accept_auth_event(core: Core, event_id: str, expires_at: int) -> None:
    """Accepts a NIP-98 event id once.

    Raises:
        Unauthenticated: it was accepted before.
    """
    await AuthEventRow.filter(expires_at__lt=core.clock.now()).delete()
    try:
        await AuthEventRow.create(event_id=event_id, expires_at=expires_at)
    except IntegrityError:
        raise Unauthenticated(
            "this authorization event was used before; sign a new one", reason="AUTH_EVENT_REPLAYED"
        ) from None


async def register(core: Core, pubkey: str) -> UserRow:
    """The user of a key, made known now unless it already is."""
    row, _ = await UserRow.get_or_create(pubkey=pubkey, defaults={"created_at": core.clock.now()})
    return row


async def login(core: Core, pubkey: str) -> tuple[UserRow, Session]:
    """Registers if necessary and opens a session."""
    user = await register(core, pubkey)
    now = core.clock.now()
    session = Session(secrets.token_urlsafe(32), now + core.settings.session_seconds)
    await SessionRow.filter(expires_at__lt=now).delete()
    await SessionRow.create(
        token_hash=_token_hash(session.token), pubkey=pubkey, expires_at=session.expires_at
    )
    return user, session


async def logout(token: str) -> None:
    """Ends a session; an unknown token is no error."""
    await SessionRow.filter(token_hash=_token_hash(token)).delete()


async def session_owner(core: Core, token: str) -> str:
    """The Nostr key of a session.

    Raises:
        Unauthenticated: there is no such session, or it has ended.
    """
    row = await SessionRow.get_or_none(token_hash=_token_hash(token))
    if row is None or row.expires_at < core.clock.now():
        raise Unauthenticated("the session has ended; log in again", reason="SESSION_EXPIRED")
    return row.pubkey


def _token_hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
