"""What the oracle needs from a source of data. Weather is the first; another is one more module."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.routing import Route

from coordinator.ports.oracle import EntrySubmission, MetricConfig, ObservationWindow, Reading


@dataclass(frozen=True, slots=True)
class Subject:
    """What an event is about, as a source understood the request."""

    source_ids: tuple[str, ...]
    metrics: tuple[str, ...]


class Source(Protocol):
    """A source of references and observations, and the part of the JSON that is its own."""

    @property
    def metrics(self) -> Mapping[str, MetricConfig]:
        """What can be predicted, by name."""
        ...

    def readings(self, source_ids: Sequence[str], window: ObservationWindow, now: int) -> tuple[Reading, ...]:
        """What is known at `now` (unix seconds), for every source id and metric."""
        ...

    def parse_subject(self, body: Mapping[str, Any]) -> Subject:
        """The subject in a request for a new event; raises `InvalidRequest`."""
        ...

    def parse_entry(self, body: Mapping[str, Any]) -> EntrySubmission:
        """An entry in a request; raises `InvalidRequest`. Its id and subject are checked by the service."""
        ...

    def subject_json(self, subject: Subject, readings: Sequence[Reading], start_at: int) -> dict[str, Any]:
        """The subject and its readings in an answer."""
        ...

    def entry_json(self, entry: EntrySubmission) -> dict[str, Any]:
        """An entry's predictions in an answer."""
        ...

    def routes(self) -> list[Route]:
        """Further routes: what there is to choose from."""
        ...
