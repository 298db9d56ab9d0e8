"""A competition that ended before funding says why, and what happens to everybody's money."""

from typing import Any

import pytest

from coordinator.domain.competition import EscrowPlan
from coordinator.domain.endings import ending_words
from coordinator.domain.states import Cancelled, Failed


@pytest.mark.parametrize(
    ("sent", "returned", "words"),
    [
        (False, False, "Every payment is being returned: it was only held, and never taken."),
        (False, True, "Every payment was returned: it had only been held, and never taken."),
        (
            True,
            False,
            "1,395 blocks (about 10 days) after they were confirmed. Players need not do anything.",
        ),
        (True, True, "Every payment was returned, and the coordinator's coins came back from the escrows."),
    ],
)
@pytest.mark.parametrize("kind", [Failed, Cancelled])
def test_why_and_where_the_money_is(kind: Any, sent: bool, returned: bool, words: str) -> None:
    where = {"failed_in": "created"} if kind is Failed else {"cancelled_in": "created"}
    ended = kind(
        facts=None,
        reason="2 of 3 players slept.",
        escrow=EscrowPlan(b"", "", (), 0, 50_000, b"", 2, 0, release_blocks=1395),
        escrow_broadcast=sent,
        money_returned=returned,
        **where,
    )
    text = ending_words(ended)
    assert text.startswith("2 of 3 players slept. Every payment ")
    assert text.endswith(words)
    assert ".." not in text
