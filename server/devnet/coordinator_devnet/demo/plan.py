"""What a demonstration plays, and what it must keep to go on after an interruption."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coordinator_client.player import PlayerSecrets


class DemoError(Exception):
    """The demonstration cannot go on; the message says why."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the competition is to end: a ranking, or `refund`, or `expiry`."""

    kind: str
    winners: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str, players: int, places: int) -> Outcome:
        """`1,0`, `refund`, `expiry`, or empty for the first players in order.

        Raises:
            DemoError: no such outcome of this competition.
        """
        if text in ("refund", "expiry"):
            return cls(text)
        try:
            winners = tuple(int(part) for part in text.split(",")) if text else tuple(range(places))
        except ValueError:
            raise DemoError("--outcome takes player indices by commas, refund or expiry") from None
        if len(winners) != places or len(set(winners)) != places or not set(winners) <= set(range(players)):
            raise DemoError(f"--outcome must name {places} different players of 0 to {players - 1}")
        return cls("ranking", winners)

    def __str__(self) -> str:
        return ",".join(map(str, self.winners)) if self.kind == "ranking" else self.kind


@dataclass(slots=True)
class Plan:
    """One demonstration. Holds players' secrets: its file is readable by its owner only."""

    competition_id: str
    players: list[PlayerSecrets] = field(repr=False)
    nodes: list[str]
    places: int
    outcome: Outcome
    before_sats: dict[str, int]
    before_circulating_sats: int
    finished: bool = False

    def save(self, folder: Path) -> None:
        """Writes the plan, replacing what was there at once."""
        folder.mkdir(parents=True, exist_ok=True)
        plain: dict[str, Any] = {
            "competition_id": self.competition_id,
            "players": [player.to_json() for player in self.players],
            "nodes": self.nodes,
            "places": self.places,
            "outcome": {"kind": self.outcome.kind, "winners": list(self.outcome.winners)},
            "before_sats": self.before_sats,
            "before_circulating_sats": self.before_circulating_sats,
            "finished": self.finished,
        }
        path = folder / f"{self.competition_id}.json"
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(plain, file, indent=1)
        fresh.rename(path)

    @classmethod
    def load(cls, path: Path) -> Plan:
        """What `save` wrote."""
        plain = json.loads(path.read_text())
        return cls(
            competition_id=plain["competition_id"],
            players=[PlayerSecrets.from_json(player) for player in plain["players"]],
            nodes=plain["nodes"],
            places=plain["places"],
            outcome=Outcome(plain["outcome"]["kind"], tuple(plain["outcome"]["winners"])),
            before_sats=plain["before_sats"],
            before_circulating_sats=plain["before_circulating_sats"],
            finished=plain["finished"],
        )

    @classmethod
    def unfinished(cls, folder: Path) -> Plan | None:
        """The newest demonstration that was interrupted."""
        for path in sorted(folder.glob("*.json"), reverse=True):
            plan = cls.load(path)
            if not plan.finished:
                return plan
        return None
