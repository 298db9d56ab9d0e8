"""`watch`: events as they happen, and the long waits between them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, Final

from coordinator.admin.competitions import state_cell, state_name
from coordinator.admin.errors import AdminError, Exit
from coordinator.admin.jsonform import message_json
from coordinator.admin.output import Styled
from coordinator.admin.progress import Progress, Reached, progress_bar, reached
from coordinator.admin.session import Session
from coordinator.admin.timeform import show_clock
from coordinator_client.errors import Unavailable
from coordinator_client.follow import Item, Watched, follow
from coordinator_client.proto.coordinator import v1

_REFRESH_SECONDS: Final = 1.0
_STYLES: Final = {
    "competition.failed": "red",
    "ticket.payment_lost": "red",
    "payout.failed": "red",
    "competition.cancelled": "yellow",
    "competition.paused": "yellow",
    "transaction.unconfirmed": "yellow",
    "payout.paid": "green",
    "competition.at_rest": "green",
}


async def watch(session: Session) -> None:
    """`watch`."""
    arguments = session.arguments
    if arguments.until and not arguments.competition_id:
        raise AdminError(Exit.USAGE, "USAGE", "--until needs the ID of a competition")
    # What is wrong with address, key or id shows here, at once. After that the stream is meant to last.
    if arguments.competition_id:
        await _competition(session)
    else:
        await session.client.competitions.get_coordinator(v1.GetCoordinatorRequest())
    await _Watch(session).run()


async def _competition(session: Session) -> v1.Competition:
    answer = await session.client.competitions.get_competition(
        v1.GetCompetitionRequest(competition_id=session.arguments.competition_id)
    )
    return answer.competition


class _Watch:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._out = session.out
        self._until: str = session.arguments.until or ""
        self._one = bool(session.arguments.competition_id)
        self._live: dict[str, Progress] = {}
        self._lost = ""

    async def run(self) -> None:
        arguments = self._session.arguments
        # These say where competitions are; what nobody asked for is not shown.
        kinds = [*arguments.kind, "competition.*"] if arguments.kind else []
        items = follow(
            self._session.connection.open,
            Watched(arguments.competition_id, kinds, arguments.after),
            on_lost=self._on_lost,
            give_up_seconds=arguments.give_up_after,
        )
        ticking = asyncio.create_task(self._tick())
        try:
            async with aclosing(items):
                async for item in items:
                    await self._take(item)
                    if self._is_reached():
                        return
        finally:
            ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticking
            self._out.clear_status()

    async def _take(self, item: Item) -> None:
        if self._lost:
            self._lost = ""
            self._out.note("connected again")
        match item:
            case v1.Snapshot():
                self._live = {c.id: Progress(c) for c in item.competitions}
                self._show_snapshot(item)
            case v1.Event():
                data = message_json(item)["data"] or {}
                # Started behind an event there was no snapshot.
                unknown = self._one and item.competition_id not in self._live
                if unknown and (found := await self._look_up()) is not None:
                    self._live[item.competition_id] = Progress.before(found, item)
                if item.competition_id in self._live:
                    self._live[item.competition_id].take(item, data)
                if self._is_wanted(item.kind):
                    self._show_event(item, data)
            case _:
                # All is told; the state may have come before the event that this started behind.
                wanted = self._one and self._until
                if wanted and (found := await self._look_up()) is not None:
                    self._live[found.id] = Progress(found)
        self._refresh()

    async def _look_up(self) -> v1.Competition | None:
        """The competition; None while the core cannot be asked: the stream goes on, and asks again."""
        try:
            return await _competition(self._session)
        except Unavailable:
            return None

    def _is_wanted(self, kind: str) -> bool:
        wanted = self._session.arguments.kind
        groups = tuple(group.removesuffix("*") for group in wanted if group.endswith(".*"))
        return not wanted or kind in wanted or kind.startswith(groups)

    def _is_reached(self) -> bool:
        """Raises AdminError if it never will be."""
        if not self._until:
            return False
        for progress in self._live.values():
            verdict = reached(self._until, progress.state, progress.competition.outcome)
            if verdict is Reached.NEVER:
                raise AdminError(
                    Exit.PRECONDITION,
                    "STATE_NEVER_COMES",
                    f"the competition is {progress.state}: it will not be {self._until}",
                )
            if verdict is Reached.YES:
                return True
        return False

    def _on_lost(self, problem: str) -> None:
        self._lost = problem
        self._out.note(f"connection lost: {problem}; connecting again")

    async def _tick(self) -> None:
        while True:
            self._refresh()
            await asyncio.sleep(_REFRESH_SECONDS)

    def _refresh(self) -> None:
        if self._lost:
            self._out.status("connecting again …")
        elif self._one:
            for progress in self._live.values():
                self._out.status(progress.describe())
        else:
            self._out.status("waiting for events …")

    def _show_snapshot(self, snapshot: v1.Snapshot) -> None:
        if self._out.as_json:
            self._out.json_line({"snapshot": message_json(snapshot)})
            return
        if not snapshot.competitions:
            self._out.note("no competition is live")
        for competition in snapshot.competitions:
            self._out.line(
                f"{'now':<8}  {competition.id}  ",
                state_cell(competition.state),
                f"  {competition.terms.name}; {competition.entries} of"
                f" {competition.terms.total_allowed_entries} entries",
            )

    def _show_event(self, event: v1.Event, data: Mapping[str, Any]) -> None:
        if self._out.as_json:
            self._out.json_line({"event": message_json(event)})
            return
        which = "" if self._one else f"  {event.competition_id}"
        head = f"{show_clock(event.occurred_at)}  #{event.sequence}{which}  "
        if event.kind == "competition.state_changed":
            self._out.line(head, f"{data.get('from', '')} → ", state_cell(event.state))
            return
        shown = "  ".join(f"{name}={_value(name, value)}" for name, value in data.items())
        if event.kind.endswith("_progress") and data.get("total"):
            shown = f"{progress_bar(int(data.get('done') or 0), int(data['total']))}  {shown}"
        style = _STYLES.get(event.kind, "cyan")
        state = "" if event.kind != "competition.created" else f"  {state_name(event.state)}"
        self._out.line(head, Styled(event.kind, style), f"{state}  {shown}".rstrip())


def _value(name: str, value: Any) -> str:
    if name.endswith("_sats") and isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return str(value)
