"""Commands on competitions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from coordinator.admin.errors import AdminError, Exit, exit_of
from coordinator.admin.jsonform import message_json
from coordinator.admin.output import Cell, Styled, sats
from coordinator.admin.session import Session, all_pages
from coordinator.admin.terms import create_request, with_flags
from coordinator.admin.timeform import is_set, show_distance, show_duration, show_moment
from coordinator.domain.ids import new_uuid7
from coordinator.domain.states import TERMINAL
from coordinator_client.errors import ApiError, Unavailable
from coordinator_client.proto.coordinator import v1

_STYLES: Final = {"completed": "green", "failed": "red", "cancelled": "yellow"}


def state_name(state: v1.CompetitionState | int) -> str:
    """As the REST API writes it; a number if it is newer than this program."""
    name: str | None = v1.CompetitionState.try_value(int(state)).name
    return str(int(state)) if name is None else name.lower()


def state_cell(state: v1.CompetitionState | int) -> Styled:
    """The state in the colour that says how it is going."""
    name = state_name(state)
    return Styled(name, _STYLES.get(name, "cyan"))


async def create(session: Session) -> None:
    """`create`."""
    session.connection.require_key()
    request = create_request(session.arguments, datetime.now(UTC))
    # Chosen here, so that one knows what to look for when the answer gets lost.
    request.id = request.id or new_uuid7()
    try:
        answer = await session.client.competitions.create_competition(request)
    except ApiError as error:
        if not error.field_errors:
            raise
        raise AdminError(
            exit_of(error), error.reason, "the terms are refused", with_flags(error.field_errors)
        ) from None
    except Unavailable as error:
        raise AdminError(
            Exit.UNAVAILABLE, "UNAVAILABLE", f"{error}; `show {request.id}` tells whether it was created"
        ) from None
    _show(session, answer.competition)


async def list_(session: Session) -> None:
    """`list`."""
    arguments = session.arguments
    names = arguments.state
    if arguments.live:
        names = [s.name.lower() for s in v1.CompetitionState if s and s.name.lower() not in TERMINAL]
    states = [v1.CompetitionState[name.upper()] for name in names]
    sequences: list[int] = []

    async def fetch(size: int, token: str) -> tuple[Sequence[v1.Competition], str]:
        page = await session.client.competitions.list_competitions(
            v1.ListCompetitionsRequest(page_size=size, page_token=token, states=states)
        )
        sequences.append(page.sequence)
        return page.competitions, page.next_page_token

    competitions, token = await all_pages(fetch, arguments.limit)
    if session.out.as_json:
        # Of the first page: what happens while the others are read is told again by a watch, not lost.
        session.out.document(
            message_json(
                v1.ListCompetitionsResponse(
                    competitions=competitions, next_page_token=token, sequence=sequences[0]
                )
            )
        )
        return
    session.out.table(
        ("ID", "STATE", "ENTRIES", "FEE", "STARTS", "NAME"),
        [
            (
                c.id,
                state_cell(c.state),
                f"{c.entries}/{c.terms.total_allowed_entries}",
                sats(c.terms.entry_fee_sats),
                show_moment(c.terms.start_observation_at),
                c.terms.name + (" (paused)" if c.paused else ""),
            )
            for c in competitions
        ],
        right="ENTRIES FEE",
    )
    if token:
        session.out.note(f"there are more than {arguments.limit}")


async def show(session: Session) -> None:
    """`show`."""
    answer = await session.client.competitions.get_competition(
        v1.GetCompetitionRequest(competition_id=session.arguments.competition_id)
    )
    _show(session, answer.competition)


async def cancel(session: Session) -> None:
    """`cancel`."""
    session.connection.require_key()
    answer = await session.client.competitions.cancel_competition(
        v1.CancelCompetitionRequest(
            competition_id=session.arguments.competition_id, reason=session.arguments.reason
        )
    )
    _show(session, answer.competition)


async def pause(session: Session) -> None:
    """`pause`."""
    await _pause(session, True)


async def resume(session: Session) -> None:
    """`resume`."""
    await _pause(session, False)


async def _pause(session: Session, paused: bool) -> None:
    session.connection.require_key()
    answer = await session.client.competitions.pause_competition(
        v1.PauseCompetitionRequest(competition_id=session.arguments.competition_id, paused=paused)
    )
    _show(session, answer.competition)


async def retry(session: Session) -> None:
    """`retry`."""
    session.connection.require_key()
    answer = await session.client.competitions.retry_competition(
        v1.RetryCompetitionRequest(competition_id=session.arguments.competition_id)
    )
    _show(session, answer.competition)


async def inspect(session: Session) -> None:
    """`inspect`."""
    session.connection.require_key()
    found = await session.client.competitions.inspect_competition(
        v1.InspectCompetitionRequest(competition_id=session.arguments.competition_id)
    )
    out = session.out
    if out.as_json:
        out.document(message_json(found))
        return
    now = datetime.now(UTC)
    out.facts(competition_facts(found.competition, now))
    out.heading("Next step")
    failed: Cell = str(found.failed_attempts)
    next_attempt = "-"
    if is_set(found.next_attempt_at):
        next_attempt = f"{show_moment(found.next_attempt_at)} ({show_distance(found.next_attempt_at, now)})"
    if found.failed_attempts:
        failed = Styled(str(found.failed_attempts), "red")
    out.facts(
        [
            ("next attempt", next_attempt),
            ("failed attempts", failed),
            ("last error", Styled(found.last_error, "red") if found.last_error else "-"),
        ]
    )
    out.heading("History")
    ends = [change.occurred_at for change in found.history[1:]]
    last_end = None if state_name(found.competition.state) in TERMINAL else now
    out.table(
        ("SEQUENCE", "AT", "STATE", "FOR"),
        [
            (
                str(change.sequence),
                show_moment(change.occurred_at),
                state_cell(change.state),
                "" if end is None else show_duration((end - change.occurred_at).total_seconds()),
            )
            for change, end in zip(found.history, [*ends, last_end], strict=False)
        ],
        right="SEQUENCE",
    )
    if found.intents:
        out.heading("Money in motion")
        out.table(
            ("STATUS", "RECORDED", "LAST ATTEMPT", "KEY"),
            [
                (
                    Styled(i.status, "yellow") if i.status == "pending" else i.status,
                    show_moment(i.created_at),
                    show_moment(i.attempted_at),
                    i.key,
                )
                for i in found.intents
            ],
        )
    if session.arguments.stored:
        out.heading("Stored state")
        for line in json.dumps(json.loads(found.state_json), indent=2, ensure_ascii=False).splitlines():
            out.line(line)


async def entries(session: Session) -> None:
    """`entries`."""

    async def fetch(size: int, token: str) -> tuple[Sequence[v1.Entry], str]:
        page = await session.client.entries.list_entries(
            v1.ListEntriesRequest(
                competition_id=session.arguments.competition_id, page_size=size, page_token=token
            )
        )
        return page.entries, page.next_page_token

    found, token = await all_pages(fetch, session.arguments.limit)
    if session.out.as_json:
        session.out.document(message_json(v1.ListEntriesResponse(entries=found, next_page_token=token)))
        return
    session.out.table(
        ("INDEX", "ENTRY", "TICKET", "CREATED", "RELEASE", "FUNDING", "OWNER"),
        [
            (
                "-" if e.player_index < 0 else str(e.player_index),
                e.id,
                e.ticket_id,
                show_moment(e.created_at),
                "signed" if e.escrow_release_signed else "-",
                "signed" if e.funding_signed else "-",
                e.owner_pubkey,
            )
            for e in found
        ],
        right="INDEX",
    )
    if token:
        session.out.note(f"there are more than {session.arguments.limit}")


async def leaderboard(session: Session) -> None:
    """`leaderboard`."""
    board = await session.client.competitions.get_leaderboard(
        v1.GetLeaderboardRequest(competition_id=session.arguments.competition_id)
    )
    if session.out.as_json:
        session.out.document(message_json(board))
        return
    session.out.table(
        ("RANK", "POINTS", "SCORE", "INDEX", "ENTRY", "OWNER"),
        [
            (
                str(row.rank),
                str(row.points),
                sats(row.score),
                "-" if row.player_index < 0 else str(row.player_index),
                row.entry_id,
                row.owner_pubkey,
            )
            for row in board.rows
        ],
        right="RANK POINTS SCORE INDEX",
    )
    session.out.note("the observations are final" if board.final else "so far; the observations may change")


def _show(session: Session, competition: v1.Competition) -> None:
    if session.out.as_json:
        session.out.document(message_json(competition))
    else:
        session.out.facts(competition_facts(competition, datetime.now(UTC)))


def competition_facts(c: v1.Competition, now: datetime) -> list[tuple[str, Cell]]:
    """A competition for people; what is not known yet is left out."""
    t = c.terms
    since = show_duration((now - c.state_changed_at).total_seconds())
    facts: list[tuple[str, Cell]] = [
        ("id", c.id),
        ("name", t.name),
        ("state", state_cell(c.state)),
        ("", f"since {show_moment(c.state_changed_at)} ({since})"),
    ]
    if c.paused and state_name(c.state) in ("created", "collecting_entries"):
        facts.append(("", Styled("paused: no tickets sold, no entries taken", "yellow")))
    if c.progress_percent:
        facts.append(("progress", f"{c.progress_percent} %"))
    if c.failure_reason:
        facts.append(("reason", Styled(c.failure_reason, "red")))
    pool = (
        f"{sats(t.total_competition_pool_sats)} sats" if t.total_competition_pool_sats else "what entries pay"
    )
    facts += [
        ("entries", f"{c.entries} of {t.total_allowed_entries} (at least {t.min_entries})"),
        ("tickets", f"{c.paid_tickets} paid, {c.reserved_tickets} reserved"),
        ("entry fee", f"{sats(t.entry_fee_sats)} sats, {t.coordinator_fee_percent} % for the coordinator"),
        ("pool", pool),
        ("places", str(t.number_of_places_win)),
        (
            "predictions",
            f"{t.number_of_values_per_entry} of {', '.join(t.scoring_fields)} at {', '.join(t.locations)}",
        ),
    ]
    for name, moment in (
        ("starts", t.start_observation_at),
        ("ends", t.end_observation_at),
        ("attested", t.signing_at),
    ):
        facts.append((name, f"{show_moment(moment)} ({show_distance(moment, now)})"))
    facts += [
        ("contract", f"delta {t.relative_locktime_blocks} blocks, {t.fee_rate_sats_per_vb} sat/vB"),
        ("approval", "of every player" if t.require_signing_approval else "as each player chooses"),
        ("created", show_moment(c.created_at)),
        ("market maker", c.market_maker_pubkey),
    ]
    if c.oracle_pubkey:
        facts.append(("oracle", c.oracle_pubkey))
    if c.outcome:
        facts += [("outcome", c.outcome), ("winners", ", ".join(map(str, c.winners)))]
    x = c.transactions
    for name, txids in (
        ("escrow tx", [x.escrow_txid]),
        ("funding tx", [x.funding_txid]),
        ("outcome tx", [x.outcome_txid]),
        ("split tx", [x.split_txid]),
        ("closing tx", x.closing_txids),
        ("release tx", x.release_txids),
    ):
        facts += [(name, txid) for txid in txids if txid]
    return facts
