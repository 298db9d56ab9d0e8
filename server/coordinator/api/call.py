"""The call being answered: who makes it, and what identifies it. One per task, set by the interceptor."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field

from coordinator.domain.errors import Unauthenticated


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: a Nostr key (x-only hex), proven by signature or session; empty for a stranger."""

    pubkey: str = ""
    is_admin: bool = False
    session_token: str = field(default="", repr=False)
    """Set when the caller was known by it, or presents it to end it."""

    def required(self) -> str:
        """The caller's key.

        Raises:
            Unauthenticated: a stranger calls.
        """
        if not self.pubkey:
            raise Unauthenticated("this needs your Nostr key: sign in", reason="AUTH_REQUIRED")
        return self.pubkey


@dataclass(frozen=True, slots=True)
class Call:
    """One call."""

    method: str
    request_id: str
    caller: Caller
    idempotency_key: str | None = None
    server_chosen_id: str = ""
    """The id of this request's new object unless the client chose one: the same at every repetition."""


_current: ContextVar[Call] = ContextVar("coordinator.api.call")
request_id: ContextVar[str] = ContextVar("coordinator.api.request_id", default="-")
"""For log formatters: the id of the request being answered."""


def current_call() -> Call:
    """The call that this task answers."""
    return _current.get()


def current_caller() -> Caller:
    """Who makes it."""
    return _current.get().caller


def enter_call(call: Call) -> None:
    """Makes it the current one of this task."""
    _current.set(call)
