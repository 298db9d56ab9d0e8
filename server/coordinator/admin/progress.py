"""Where a competition that is watched has got to, and what it waits for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Final

from coordinator.admin.competitions import state_name
from coordinator.admin.timeform import is_set, show_distance, show_duration
from coordinator.domain.states import STATES, TERMINAL
from coordinator_client.proto.coordinator import v1

_BAR: Final = 20
_ORDER: Final = {name: index for index, name in enumerate(STATES)}
_WAITS: Final = {
    "awaiting_escrow": "players' signatures, then the escrow's confirmation",
    "escrow_confirmed": "the oracle's announcement",
    "event_created": "the oracle to take the entries",
    "entries_submitted": "the contract's parameters",
    "contract_created": "keymeld's sessions",
    "awaiting_keygen": "keymeld to aggregate keys",
    "awaiting_signing": "keymeld to sign every outcome",
    "funding_ready": "players to sign the funding",
    "funding_broadcasted": "the funding's confirmations",
    "funding_confirmed": "held payments to settle",
    "attested": "the outcome transaction",
    "outcome_broadcasted": "winners to ask for their payouts",
    "expiry_broadcasted": "players to ask for their shares",
    "delta_broadcasted": "the last transactions",
}


class Reached(Enum):
    """Whether a state that is waited for has come."""

    YES = "yes"
    NOT_YET = "not yet"
    NEVER = "never"


def reached(target: str, state: str, outcome: str) -> Reached:
    """Whether a competition has got to a state or beyond it.

    Args:
        target: what is waited for.
        state: where it is.
        outcome: `Competition.outcome`.
    """
    if state == target:
        return Reached.YES
    if state not in _ORDER:  # newer than this program
        return Reached.NOT_YET
    if target in ("failed", "cancelled"):
        return Reached.NEVER if state in TERMINAL else Reached.NOT_YET
    if state in ("failed", "cancelled"):
        return Reached.NEVER
    # By attestation or by expiry: whoever waits for one must not be told that it came with the other.
    expired = state == "expiry_broadcasted" or outcome == "exp"
    attested = state in ("attested", "outcome_broadcasted") or outcome.startswith("att")
    if target == "expiry_broadcasted":
        return Reached.NEVER if attested else Reached.YES if expired else Reached.NOT_YET
    if target in ("attested", "outcome_broadcasted") and expired:
        return Reached.NEVER
    return Reached.YES if _ORDER[state] > _ORDER[target] else Reached.NOT_YET


@dataclass(slots=True)
class Progress:
    """A competition as the snapshot and the events since then tell it."""

    competition: v1.Competition
    done: int = 0
    total: int = 0

    @property
    def state(self) -> str:
        return state_name(self.competition.state)

    @classmethod
    def before(cls, competition: v1.Competition, event: v1.Event) -> Progress:
        """The competition as it was at an event of the past, as far as that can be known.

        Args:
            competition: as it is now.
            event: the first one that is told again.
        """
        competition.state, competition.state_changed_at = event.state, event.occurred_at
        if _ORDER.get(state_name(event.state), 0) < _ORDER["attested"]:
            competition.outcome = ""
        return cls(competition)

    def take(self, event: v1.Event, data: dict[str, object]) -> None:
        """What an event changes."""
        competition = self.competition
        if state_name(event.state) != self.state:
            competition.state, competition.state_changed_at = event.state, event.occurred_at
            self.done = self.total = 0
        if event.kind.startswith("keymeld."):
            self.done, self.total = _whole(data.get("done")), _whole(data.get("total"))
        if event.kind == "entry.submitted" and "entries" in data:
            competition.entries = _whole(data["entries"])
        if event.kind == "competition.paused":
            competition.paused = True
        if event.kind == "competition.resumed":
            competition.paused = False
        if event.kind == "oracle.attested":
            competition.outcome = str(data.get("outcome", ""))

    def describe(self, now: datetime | None = None) -> str:
        """One line: state, for how long, and what comes next."""
        now = now or datetime.now(UTC)
        since = show_duration((now - self.competition.state_changed_at).total_seconds())
        return f"{self.state} for {since}{self._bar()}{self._next(now)}"

    def _bar(self) -> str:
        if self.total <= 0:
            return ""
        return f"  {progress_bar(self.done, self.total)}"

    def _next(self, now: datetime) -> str:
        c = self.competition
        if self.state in ("created", "collecting_entries"):
            when = f"; starts {_distance(c.terms.start_observation_at, now)}"
            paused = "; paused" if c.paused else ""
            return f"; {c.entries} of {c.terms.total_allowed_entries} entries{when}{paused}"
        if self.state in ("funding_settled", "awaiting_attestation"):
            return f"; the oracle attests {_distance(c.terms.signing_at, now)}"
        waits = _WAITS.get(self.state, "")
        return f"; waiting for {waits}" if waits else ""


def progress_bar(done: int, total: int) -> str:
    """`[#####---------------] 5/20 25%`."""
    done = max(0, min(done, total))
    filled = _BAR * done // total
    return f"[{'#' * filled}{'-' * (_BAR - filled)}] {done}/{total} {100 * done // total}%"


def _distance(moment: datetime, now: datetime) -> str:
    if not is_set(moment):
        return "sometime"
    return show_distance(moment, now) if moment > now else "any moment"


def _whole(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0
