"""A player hands in nothing that it has not checked, and only what is right."""

import base64
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from coincurve import PrivateKey

from coordinator.contract.escrow import release_transaction, verify_release_signature
from coordinator_client import bolt11, player
from coordinator_client.errors import (
    CheckFailed,
    ContractMismatch,
    InvoiceMismatch,
    MalformedAnswer,
    Unavailable,
    UnsafeHtlc,
)
from coordinator_client.jsonform import to_json
from coordinator_client.oracle import Announcement, fetch_announcement
from coordinator_client.player import Agreement, NoTicket, Player, PlayerSecrets
from coordinator_client.proto.coordinator.v1 import GetContractResponse
from support.agreed import (
    COMPETITION_ID,
    ME,
    OBSERVATIONS,
    P2TR,
    RELEASE_BLOCKS,
    TERMS,
    TICKET_IDS,
    Agreed,
    agreed,
)
from support.client import BASE, client, signer
from support.contract import secret


@pytest.fixture(scope="module")
def deal() -> Agreed:
    return agreed()


class Coordinator:
    """Answers by path; keeps what is handed in."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.handed_in: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        signer(request)
        path = request.url.path.removeprefix("/api/v1/")
        if request.method == "POST":
            self.handed_in.append((path, json.loads(request.content)))
        answer = self.answers[path]
        return httpx.Response(200, json=answer)


def player_of(deal: Agreed, coordinator: Coordinator, secrets: PlayerSecrets | None = None, **options: Any):
    made = Player(BASE, COMPETITION_ID, secrets or replace(deal.secrets), **options)
    made.rest = client(coordinator, made.key)
    return made


def coordinator_of(deal: Agreed, contract: GetContractResponse) -> Coordinator:
    return Coordinator(
        {
            f"competitions/{COMPETITION_ID}/contract": to_json(contract),
            f"entries/{deal.secrets.entry_id}/signatures": {"id": deal.secrets.entry_id},
        }
    )


@pytest.fixture
def oracle(deal: Agreed, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    asked: list[tuple[str, str]] = []

    async def fetch(url: str, event_id: str) -> Announcement:
        asked.append((url, event_id))
        return deal.announcement

    monkeypatch.setattr(player, "fetch_announcement", fetch)
    return asked


async def test_the_release_it_signs_is_its_own_escrows(deal: Agreed) -> None:
    coordinator = coordinator_of(deal, deal.response)
    await player_of(deal, coordinator).sign_release(htlc_blocks_left=RELEASE_BLOCKS - 144)
    [(path, body)] = coordinator.handed_in
    assert path == f"entries/{deal.secrets.entry_id}/signatures"
    coin = deal.funding.escrows[ME]
    release = release_transaction(coin.outpoint, coin.value_sats, coin.escrow, P2TR, 2, RELEASE_BLOCKS)
    signature = bytes.fromhex(body["escrow_release_signature"])
    pubkey = coin.escrow.player_pubkey
    assert verify_release_signature(pubkey, signature, release, coin.value_sats, coin.escrow, RELEASE_BLOCKS)
    assert body["funding_signature"] == ""


async def test_the_funding_it_signs_was_checked_against_the_oracle(
    deal: Agreed, oracle: list[tuple[str, str]]
) -> None:
    coordinator = coordinator_of(deal, deal.response)
    await player_of(deal, coordinator).sign_funding()
    [(_, body)] = coordinator.handed_in
    assert deal.funding.verify_player_signature(ME, bytes.fromhex(body["funding_signature"]))
    assert oracle == [("https://oracle.test", COMPETITION_ID)]
    await player_of(deal, coordinator, oracle_url="https://mine.test").sign_funding()
    assert oracle[1] == ("https://mine.test", COMPETITION_ID)
    await player_of(deal, coordinator, check_oracle=False).sign_funding()
    assert len(oracle) == 2


async def test_another_oracle_than_the_expected_one(deal: Agreed, oracle: list[tuple[str, str]]) -> None:
    coordinator = coordinator_of(deal, deal.response)
    right = deal.announcement.oracle_pubkey
    await player_of(deal, coordinator, oracle_pubkey=right).sign_funding()
    with pytest.raises(ContractMismatch, match="another oracle"):
        await player_of(deal, coordinator, oracle_pubkey=bytes(32)).sign_funding()
    assert len(coordinator.handed_in) == 1


async def test_nothing_is_handed_in_after_a_lie(deal: Agreed, oracle: list[tuple[str, str]]) -> None:
    def escrow(contract: GetContractResponse) -> None:
        contract.players[ME].escrow_vout = 0

    def release(contract: GetContractResponse) -> None:
        contract.release_fee_rate_sats_per_vb = 100_000

    def no_lock(contract: GetContractResponse) -> None:
        contract.release_blocks = 65_536 | 288

    def short_lock(contract: GetContractResponse) -> None:
        contract.release_blocks = 287

    def parameters(contract: GetContractResponse) -> None:
        contract.parameters_json = contract.parameters_json.replace('"fee_rate":500', '"fee_rate":501')

    def signature(contract: GetContractResponse) -> None:
        contract.signatures.pop()

    def funding(contract: GetContractResponse) -> None:
        contract.funding_psbt = ""

    cases: list[tuple[str, Callable[[GetContractResponse], None]]] = [
        ("sign_release", escrow),
        ("sign_release", release),
        ("sign_release", no_lock),
        ("sign_release", short_lock),
        ("sign_funding", escrow),
        ("sign_funding", parameters),
        ("sign_funding", signature),
        ("sign_funding", funding),
    ]
    for method, lie in cases:
        contract = deal.shown()
        lie(contract)
        coordinator = coordinator_of(deal, contract)
        with pytest.raises(CheckFailed):
            await getattr(player_of(deal, coordinator), method)()
        assert coordinator.handed_in == []


async def test_a_payment_that_outlives_the_escrow_is_not_released(deal: Agreed) -> None:
    coordinator = coordinator_of(deal, deal.response)
    with pytest.raises(UnsafeHtlc):
        await player_of(deal, coordinator).sign_release(htlc_blocks_left=RELEASE_BLOCKS - 143)
    assert coordinator.handed_in == []


def selling(deal: Agreed, **changes: Any) -> Coordinator:
    values: dict[str, Any] = {
        "network": "bcrt",
        "payment_hash": deal.agreement.ticket_hash,
        "created_at": 1_790_000_000,
        "amount_msats": TERMS.entry_fee_sats * 1000,
        "description": "Ticket",
    } | changes
    ticket = {
        "id": TICKET_IDS[ME],
        "ticket_hash": deal.agreement.ticket_hash.hex(),
        "payment_request": bolt11.encode(PrivateKey(secret("node")), **values),
    }
    return Coordinator(
        {
            "coordinator": {"network": "regtest", "oracle_url": "https://oracle.test"},
            f"competitions/{COMPETITION_ID}": {
                "id": COMPETITION_ID,
                "terms": to_json(TERMS),
                "market_maker_pubkey": deal.agreement.market_maker_pubkey.hex(),
                "keygen_session_ids": list(deal.agreement.keygen_session_ids),
            },
            f"competitions/{COMPETITION_ID}/ticket": ticket,
        }
    )


async def test_what_was_agreed_is_kept_with_the_ticket(deal: Agreed) -> None:
    secrets = PlayerSecrets.generate()
    buyer = player_of(deal, selling(deal), secrets)
    with pytest.raises(NoTicket):
        await buyer.enter(OBSERVATIONS)
    before = int(time.time())
    await buyer.request_ticket()
    assert secrets.agreement is not None
    requested_at = secrets.agreement.requested_at
    assert requested_at is not None
    assert before <= requested_at <= time.time()
    # BOLT11's default of 18 blocks, and three that payers add.
    assert secrets.agreement == replace(deal.agreement, htlc_blocks=21, requested_at=requested_at)
    assert Agreement.from_json(secrets.agreement.to_json()) == secrets.agreement


async def test_an_invoice_for_something_else_is_not_kept(deal: Agreed) -> None:
    for changes in ({"payment_hash": bytes(32)}, {"amount_msats": 1000}, {"network": "tb"}):
        secrets = PlayerSecrets.generate()
        with pytest.raises(InvoiceMismatch):
            await player_of(deal, selling(deal, **changes), secrets).request_ticket()
        assert secrets.agreement is None


async def test_a_ticket_that_cannot_be_read(deal: Agreed) -> None:
    coordinator = selling(deal)
    coordinator.answers["coordinator"]["network"] = "moon"
    with pytest.raises(MalformedAnswer):
        await player_of(deal, coordinator, PlayerSecrets.generate()).request_ticket()


async def test_an_entry_that_was_taken_already_is_found_again(deal: Agreed) -> None:
    """The answer to the first submission was lost."""
    entry_id = deal.secrets.entry_id
    entry = {
        "id": entry_id,
        "ephemeral_pubkey": deal.entry.pubkey.hex(),
        "payout_hash": deal.entry.payout_hash.hex(),
    }
    coordinator = Coordinator(
        {
            f"competitions/{COMPETITION_ID}/tickets/{TICKET_IDS[ME]}/status": {"entry_id": entry_id},
            f"entries/{entry_id}": entry,
        }
    )
    secrets = replace(deal.secrets, entry_id="", observations=())
    await player_of(deal, coordinator, secrets).enter(OBSERVATIONS)
    assert (secrets.entry_id, secrets.observations) == (entry_id, OBSERVATIONS)
    entry["payout_hash"] = "00" * 32
    with pytest.raises(ContractMismatch, match="other keys"):
        await player_of(deal, coordinator, secrets).enter(OBSERVATIONS)


async def test_a_payout_is_only_asked_for_with_its_own_hash(deal: Agreed) -> None:
    path = f"competitions/{COMPETITION_ID}/entries/{deal.secrets.entry_id}/payout"
    coordinator = Coordinator({path: {"state": "requested"}})
    winner = player_of(deal, coordinator)

    def invoice(payment_hash: bytes) -> str:
        return bolt11.encode(
            PrivateKey(secret("node")),
            network="bcrt",
            payment_hash=payment_hash,
            created_at=1_790_000_000,
            description="Prize",
        )

    for wrong in (invoice(deal.agreement.ticket_hash), "lnbcrt1"):
        with pytest.raises(InvoiceMismatch):
            await winner.request_payout(wrong)
    assert coordinator.handed_in == []
    await winner.request_payout(invoice(deal.entry.payout_hash))
    [(_, body)] = coordinator.handed_in
    assert body["payout_preimage"] == body["ephemeral_private_key"] == ""


# The oracle's answers

NONCE = secret("a nonce")


def event(**changes: Any) -> dict[str, Any]:
    return {
        "id": "e",
        "nonce": NONCE.hex(),
        "event_announcement": {"expiry": 1_800_000_000, "locking_points": []},
        "entries": [
            {
                "id": "t1",
                "expected_observations": [{"stations": "KORD", "temp_high": "Over", "rain_amt": None}],
            },
            {"id": "t2", "expected_observations": []},
        ],
    } | changes


def oracle_says(monkeypatch: pytest.MonkeyPatch, answer: Any, status: int = 200) -> None:
    key = {"key": base64.b64encode(PrivateKey(secret("oracle")).public_key.format()).decode()}

    async def get(self: httpx.AsyncClient, url: str) -> httpx.Response:
        return httpx.Response(status, json=key if url.endswith("/oracle/pubkey") else answer)

    monkeypatch.setattr(httpx.AsyncClient, "get", get)


async def test_the_live_oracles_secret_nonce_becomes_a_point(monkeypatch: pytest.MonkeyPatch) -> None:
    oracle_says(monkeypatch, event())
    announced = await fetch_announcement("https://oracle.test/", "e")
    assert announced.nonce_point == PrivateKey(NONCE).public_key.format()
    assert NONCE.hex() not in repr(announced)
    assert announced.expiry == 1_800_000_000
    assert announced.entries == {"t1": frozenset({("KORD", "temp_high", "over")}), "t2": None}
    oracle_says(monkeypatch, event(nonce_point=announced.nonce_point.hex(), nonce=None, entries=[]))
    again = await fetch_announcement("https://oracle.test", "e")
    assert again.nonce_point == announced.nonce_point
    assert again.entries == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "another"},
        {"nonce": None},
        {"nonce": NONCE.hex() + "zz"},
        {"nonce": "00" * 32},
        {"event_announcement": None},
        {"event_announcement": {"expiry": "soon"}},
        {"entries": [5]},
    ],
)
async def test_an_oracles_answer_that_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    oracle_says(monkeypatch, event(**changes))
    with pytest.raises(MalformedAnswer) as refused:
        await fetch_announcement("https://oracle.test", "e")
    assert NONCE.hex() not in str(refused.value)
    assert refused.value.__cause__ is None


async def test_an_oracle_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    oracle_says(monkeypatch, {}, 404)
    with pytest.raises(Unavailable):
        await fetch_announcement("https://oracle.test", "e")
    monkeypatch.undo()
    with pytest.raises(Unavailable):
        await fetch_announcement("http://127.0.0.1:9", "e")
