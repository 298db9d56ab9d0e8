"""Commands on a competition's keymeld rounds: how far they are, and whether players must approve."""

from __future__ import annotations

from coordinator.admin.jsonform import message_json
from coordinator.admin.output import Cell, Styled
from coordinator.admin.session import Session
from coordinator.admin.timeform import is_set, show_moment
from coordinator_client.proto.coordinator import v1

_STYLES = {"completed": "green", "failed": "red", "not_started": "dim"}


async def status(session: Session) -> None:
    """`keymeld`."""
    found = await session.client.keymeld.get_status(
        v1.GetStatusRequest(competition_id=session.arguments.competition_id)
    )
    out = session.out
    if out.as_json:
        out.document(message_json(found))
        return
    facts: list[tuple[str, Cell]] = [
        ("key generation", _styled(found.keygen_status)),
        ("signing", _styled(found.signing_status)),
        ("approval", "of every player" if found.approval_required else "as each player chose"),
    ]
    if found.batches_total:
        facts.append(("batches", f"{found.batches_done} of {found.batches_total}"))
    for name, moment in (("round since", found.started_at), ("fails at", found.deadline_at)):
        if is_set(moment):
            facts.append((name, show_moment(moment)))
    out.facts(facts)
    if found.participant_approvals:
        out.heading("Players")
        out.table(
            ("INDEX", "ENTRY", "KEY", "APPROVAL", ""),
            [
                (
                    str(index),
                    player.entry_id,
                    "with an enclave" if player.registered else "-",
                    _approval(player),
                    Styled("waited for", "yellow") if player.missing else "",
                )
                for index, player in enumerate(found.participant_approvals)
            ],
            right="INDEX",
        )


def _styled(text: str) -> Cell:
    return Styled(text, _STYLES.get(text, "yellow"))


def _approval(player: v1.ParticipantApproval) -> Cell:
    if player.approved:
        return Styled("given", "green")
    return "needed" if player.approval_required else "not needed"
