"""Faults to order: how a client behaves when the service is slow, silent, broken, dishonest or restarted."""

from dataclasses import dataclass
from enum import StrEnum

from coordinator_client.keymeld.protocol import Fields, ProtocolError


class FaultKind(StrEnum):
    """What goes wrong."""

    DELAY = "delay"
    """The request waits for `seconds` first."""
    DROP = "drop"
    """The connection closes without an answer; with `after`, once the request has had its effect."""
    ERROR = "error"
    """The answer is `status` and nothing happens."""
    WRONG_SIGNATURE = "wrong_signature"
    """A signing session completes with signatures that do not verify."""
    RESTART = "restart"
    """The enclaves' processes are killed, now."""


@dataclass(slots=True)
class Fault:
    """A fault that strikes the next `times` requests whose path contains `match`."""

    kind: FaultKind
    match: str = ""
    times: int = 1
    seconds: float = 0.0
    status: int = 503
    after: bool = False

    @classmethod
    def from_json(cls, value: object) -> "Fault":
        """
        Raises:
            ProtocolError: the fault is malformed.
        """
        fields = Fields(value, "fault")
        try:
            kind = FaultKind(fields.text("kind"))
        except ValueError:
            raise ProtocolError(f"the fault {fields.text('kind')!r} is unknown") from None
        seconds = fields.raw("seconds") or 0
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= 600:
            raise ProtocolError("fault: seconds is not between 0 and 600")
        status = fields.integer("status", 503)
        if not 400 <= status <= 599:
            raise ProtocolError("fault: status is not that of an error")
        return cls(
            kind=kind,
            match=fields.text("match", ""),
            times=fields.integer("times", 1),
            seconds=float(seconds),
            status=status,
            after=fields.flag("after", False),
        )


class Faults:
    """The faults ordered and not yet spent."""

    def __init__(self) -> None:
        self._ordered: list[Fault] = []

    def order(self, fault: Fault) -> None:
        """Add one."""
        self._ordered.append(fault)

    def clear(self) -> None:
        """Drop all."""
        self._ordered.clear()

    def strike(self, path: str, *kinds: FaultKind) -> Fault | None:
        """The first fault of these kinds for this path, one of its times used up."""
        for fault in self._ordered:
            if fault.kind in kinds and fault.match in path:
                fault.times -= 1
                if fault.times <= 0:
                    self._ordered.remove(fault)
                return fault
        return None
