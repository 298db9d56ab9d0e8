"""Who may call what: one row per RPC, looked up before anything else happens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

PACKAGE: Final = "coordinator.v1"


class Who(Enum):
    """Whom an RPC is for."""

    ANYBODY = "anybody"
    USER = "a Nostr key"
    ADMIN = "an admin's Nostr key"


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call, and whether a session token will do.

    A session token is a bearer secret that a browser keeps: it reads and watches. What changes something
    needs a NIP-98 signature of that very request.
    """

    who: Who
    session: bool


PUBLIC: Final = Access(Who.ANYBODY, session=True)
USER: Final = Access(Who.USER, session=False)
USER_OR_SESSION: Final = Access(Who.USER, session=True)
ADMIN: Final = Access(Who.ADMIN, session=False)
ADMIN_OR_SESSION: Final = Access(Who.ADMIN, session=True)
# Logging out: the token itself is the request, and one that has ended already is fine.
TOKEN_HOLDER: Final = Access(Who.ANYBODY, session=False)

_BY_SERVICE: Final[Mapping[str, Mapping[str, Access]]] = {
    "CompetitionService": {
        "GetCoordinator": PUBLIC,
        "CreateCompetition": ADMIN,
        "GetCompetition": PUBLIC,
        "ListCompetitions": PUBLIC,
        "GetContract": PUBLIC,
        "GetLeaderboard": PUBLIC,
        "CancelCompetition": ADMIN,
        "PauseCompetition": ADMIN,
        "RetryCompetition": ADMIN,
        "InspectCompetition": ADMIN_OR_SESSION,
    },
    "TicketService": {
        "RequestTicket": USER,
        "GetTicketStatus": USER_OR_SESSION,
    },
    "EntryService": {
        "CreateEntry": USER,
        "UpdateEntry": USER,
        "GetEntry": PUBLIC,
        # Of a competition: anybody. One's own: the operation asks who calls.
        "ListEntries": PUBLIC,
        "SubmitSignatures": USER,
    },
    "KeymeldService": {
        "Join": USER,
        "GetStatus": PUBLIC,
        # The operation asks for an entry of the caller's.
        "ListSigningSessions": USER_OR_SESSION,
    },
    "PayoutService": {
        "RequestPayout": USER,
        "GetPayout": USER_OR_SESSION,
        "HandOverKey": USER,
    },
    "WalletService": {
        "GetBalance": ADMIN_OR_SESSION,
        "GetAddress": ADMIN_OR_SESSION,
        "ListOutputs": ADMIN_OR_SESSION,
        "Send": ADMIN,
        "GetEstimatedFees": ADMIN_OR_SESSION,
    },
    "UserService": {
        "Register": USER,
        "Login": USER,
        "Logout": TOKEN_HOLDER,
    },
    "EventService": {
        "Watch": PUBLIC,
    },
}

ACCESS: Final[Mapping[str, Access]] = {
    f"/{PACKAGE}.{service}/{method}": access
    for service, methods in _BY_SERVICE.items()
    for method, access in methods.items()
}
"""Full method name -> who may call it."""

IDEMPOTENT: Final = frozenset(
    f"/{PACKAGE}.{name}"
    for name in (
        "CompetitionService/CreateCompetition",
        "EntryService/CreateEntry",
        "TicketService/RequestTicket",
        "PayoutService/RequestPayout",
        "WalletService/Send",
    )
)
"""Methods that take an `idempotency-key`."""
