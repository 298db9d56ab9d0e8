"""The browser app behind a real gateway, with a core that does what the test wants: what it shows, how it
stays up to date, and what it says when it cannot.
"""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from playwright.async_api import Browser, Page, expect

from coordinator.v1 import competition_pb2
from support.browser import CONTRAST, WEB_DIR, Wire, sequences, wire
from support.gateway import Fault, World, running
from support.web import EXPLORER, GET, LIST, LivingCore, competition_id

pytestmark = pytest.mark.browser

TICKET = "01980000-1111-7000-8000-00000000000{}"
ENTRY = "01980000-2222-7000-8000-00000000000{}"
FUNDING = "fb" * 32


@asynccontextmanager
async def gateway_of(core: LivingCore, **settings: Any) -> AsyncIterator[World]:
    settings = {"web_dir": WEB_DIR, "retry_milliseconds": 100, "heartbeat_seconds": 0.5} | settings
    async with running(core, **settings) as world:
        yield world


@pytest.fixture
async def core() -> LivingCore:
    return LivingCore()


async def open_page(browser: Browser, url: str, **context: Any) -> tuple[Page, list[str]]:
    """A page, and everything that goes wrong in it, as it does."""
    page = await (await browser.new_context(**context)).new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
    await page.goto(url)
    return page, problems


def path_to(id_: str) -> str:
    return f"/competitions/{id_}"


async def enter(core: LivingCore, id_: str, number: int) -> None:
    """A player takes a ticket, pays and enters."""
    ticket, entry = TICKET.format(number), ENTRY.format(number)
    await core.happen(id_, "ticket.reserved", {"ticket_id": ticket}, reserved_tickets=1)
    core.competitions[id_].reserved_tickets = 0
    await core.happen(
        id_, "ticket.paid", {"ticket_id": ticket, "amount_sats": 10_000}, paid_tickets=number + 1
    )
    if number == 0:
        await core.advance(id_, "collecting_entries")
    data = {"ticket_id": ticket, "entry_id": entry, "entries": number + 1}
    await core.happen(id_, "entry.submitted", data, entries=number + 1)


async def fund(core: LivingCore, id_: str) -> None:
    """From closing to funding."""
    await core.advance(
        id_,
        "awaiting_escrow",
        "escrow_confirmed",
        "event_created",
        "entries_submitted",
        "contract_created",
        "awaiting_keygen",
        "awaiting_signing",
        "funding_ready",
        "funding_broadcasted",
    )
    transactions = competition_pb2.CompetitionTransactions(funding_txid=FUNDING)
    data = {"role": "funding", "txid": FUNDING}
    await core.happen(id_, "transaction.broadcast", data, transactions=transactions)


# --- what is shown, live ---


async def test_list_follows_what_happens_and_asks_for_nothing_meanwhile(
    browser: Browser, core: LivingCore
) -> None:
    first = await core.announce(1, "Windy weekend")
    async with gateway_of(core) as world:
        page, problems = await open_page(browser, world.gateway.url)
        card = page.get_by_role("link", name=re.compile("Windy weekend"))
        await expect(card).to_contain_text("Announced")
        await expect(card).to_contain_text("0 / 4 entries")
        await expect(card).to_contain_text("10,000 sats")
        await expect(card).to_contain_text("up to 38,000 sats")
        await expect(page.get_by_role("status")).to_have_text("Live")
        calls = len(core.calls)

        await enter(core, first, 0)
        await expect(card).to_contain_text("Collecting entries")
        await expect(card).to_contain_text("1 / 4 entries")
        await asyncio.sleep(2)
        assert len(core.calls) == calls, "the events say it all; nothing is polled"

        await core.announce(2, "Rainy Monday")
        cards = page.locator(".cards > li")
        await expect(cards).to_have_count(2)
        await expect(cards.first).to_contain_text("Rainy Monday")
        assert [call.method for call in core.calls[calls:]] == [GET]
        assert problems == []


async def test_list_can_be_narrowed_and_goes_back_page_by_page(browser: Browser, core: LivingCore) -> None:
    for number in range(60):
        await core.announce(number, f"Number {number}")
    ended = competition_id(3)
    async with gateway_of(core) as world:
        page, _ = await open_page(browser, world.gateway.url)
        cards = page.locator(".cards > li")
        await expect(cards).to_have_count(50)
        await page.get_by_role("button", name="Show older ones").click()
        await expect(cards).to_have_count(60)
        await expect(page.get_by_role("button", name="Show older ones")).to_have_count(0)

        await page.get_by_role("link", name="Ended").click()
        await expect(page.get_by_text("No competition has ended yet.")).to_be_visible()
        await core.advance(ended, "cancelled")
        await expect(cards).to_have_count(1)
        await expect(cards).to_contain_text("Number 3")
        await page.go_back()
        await expect(cards).to_have_count(60)
        await expect(page.get_by_role("link", name=re.compile("Number 3 "))).to_contain_text("Cancelled")


async def test_page_follows_a_competition_to_its_end(browser: Browser, core: LivingCore) -> None:
    id_ = await core.announce(1, "Windy weekend")
    async with gateway_of(core) as world:
        page, problems = await open_page(browser, world.gateway.url)
        await page.get_by_role("link", name=re.compile("Windy weekend")).click()
        await expect(page).to_have_url(world.gateway.url + path_to(id_))
        heading = page.get_by_role("heading", level=1, name="Windy weekend")
        await expect(heading).to_be_focused()
        current = page.locator(".timeline [aria-current=step]")
        await expect(page.locator(".timeline > li")).to_have_count(19)
        await expect(current).to_contain_text("Announced")

        for number in range(2):
            await enter(core, id_, number)
        await expect(page.get_by_text("2 paid, 0 reserved")).to_be_visible()
        await core.advance(id_, "awaiting_escrow", "awaiting_keygen")
        data = {"done": 1, "total": 4, "registered": [], "missing": [TICKET.format(1)]}
        await core.happen(id_, "keymeld.keygen_progress", data, progress_percent=25)
        await expect(current).to_contain_text("Generating keys")
        keymeld = page.get_by_role("region", name=re.compile("keymeld"))
        await expect(keymeld).to_contain_text("Keys: 1 of 4")
        await expect(keymeld).to_contain_text("Waiting for the players with tickets 01980000…0001")

        await fund(core, id_)
        link = page.get_by_role("region", name="Transactions").get_by_role("link", name=FUNDING)
        await expect(link).to_have_attribute("href", f"{EXPLORER}/tx/{FUNDING}")
        await core.advance(id_, "funding_confirmed", "funding_settled", "awaiting_attestation")
        await core.advance(id_, "attested", outcome="att1", winners=[1])
        await core.happen(id_, "oracle.attested", {"outcome": "att1", "winners": [1]})
        await expect(page.get_by_text("player 1 won.")).to_be_visible()
        await core.advance(id_, "outcome_broadcasted")
        payout = {"entry_id": ENTRY.format(1), "amount_sats": 18_500}
        await core.happen(id_, "payout.paid", payout)
        await core.advance(id_, "completed")
        await expect(current).to_contain_text("Completed")
        await expect(page.locator(".timeline .done")).to_have_count(16)
        await expect(page.locator(".timeline .skipped")).to_have_count(2)
        winner = page.get_by_role("row", name=re.compile("1. place"))
        await expect(winner).to_contain_text(TICKET.format(1)[:8])
        await expect(winner).to_contain_text("18,500 sats paid")
        assert await sequences(page) == [stored.event.sequence for stored in core.log]
        assert problems == []


async def test_failure_and_cancellation_say_why(browser: Browser, core: LivingCore) -> None:
    id_ = await core.announce(1, "Rained out")
    async with gateway_of(core) as world:
        page, _ = await open_page(browser, world.gateway.url + path_to(id_))
        await enter(core, id_, 0)
        await core.advance(id_, "awaiting_escrow")
        await core.advance(id_, "failed", failure_reason="1 player did not sign; all payments were returned")
        await core.happen(id_, "competition.failed", {"reason": "1 player did not sign"})
        await expect(page.get_by_text("Why it failed: 1 player did not sign")).to_be_visible()
        # What the event does not say is read.
        await expect(page.get_by_text("; all payments were returned")).to_be_visible()
        steps = page.locator(".timeline > li")
        await expect(steps).to_have_count(20)
        await expect(steps.nth(2)).to_have_class(re.compile("done"))
        await expect(steps.nth(3)).to_have_text(re.compile("^Failed, the end"))
        await expect(steps.nth(4)).to_contain_text("not reached")


async def test_times_are_the_readers(browser: Browser, core: LivingCore) -> None:
    id_ = await core.announce(1, "Windy weekend")
    core.competitions[id_].terms.start_observation_at.FromJsonString("2027-01-01T20:30:00Z")
    async with gateway_of(core) as world:
        page, _ = await open_page(
            browser, world.gateway.url + path_to(id_), timezone_id="Asia/Tokyo", locale="en-GB"
        )
        await expect(page.get_by_text("2 Jan 2027, 05:30")).to_be_visible()
        await expect(page.get_by_role("contentinfo")).to_contain_text("Asia/Tokyo")


# --- connections ---


@asynccontextmanager
async def wired(
    browser: Browser, core: LivingCore, path: str, **settings: Any
) -> AsyncIterator[tuple[Page, Wire, list[str]]]:
    async with gateway_of(core, **settings) as world, wire(world.gateway.config.port) as relay:
        page, problems = await open_page(browser, relay.url + path)
        yield page, relay, problems


def all_shown(page: Page, core: LivingCore) -> Callable[[], Any]:
    async def check() -> None:
        last = page.locator(f'[data-sequence="{core.head}"]')
        await expect(last).to_be_visible(timeout=15_000)
        assert await sequences(page) == [stored.event.sequence for stored in core.log]

    return check


async def test_dropped_connection_is_said_and_resumed(browser: Browser, core: LivingCore) -> None:
    id_ = await core.announce(1, "Windy weekend")
    # So long that only the button can have brought it back.
    async with wired(browser, core, path_to(id_), retry_milliseconds=60_000) as (page, relay, problems):
        status = page.get_by_role("status")
        await expect(status).to_have_text("Live")
        await enter(core, id_, 0)
        await all_shown(page, core)()

        relay.down = True
        relay.cut()
        await expect(status).to_have_text(re.compile("^Reconnecting, as of "))
        await enter(core, id_, 1)
        await core.advance(id_, "awaiting_escrow")
        await expect(page.locator(".timeline [aria-current=step]")).to_contain_text("Collecting entries")

        relay.down = False
        await page.get_by_role("button", name="Retry now").click()
        await expect(status).to_have_text("Live")
        await all_shown(page, core)()
        await expect(page.locator(".timeline [aria-current=step]")).to_contain_text("Awaiting escrow")
        await expect(page.get_by_text("2 paid, 0 reserved")).to_be_visible()
        assert [problem for problem in problems if "net::ERR_" not in problem] == []


async def test_connection_that_breaks_anywhere_loses_and_repeats_nothing(
    browser: Browser, core: LivingCore
) -> None:
    id_ = await core.announce(1, "Windy weekend")
    draw = random.Random(20261124)
    async with wired(browser, core, path_to(id_)) as (page, relay, _):
        await expect(page.get_by_role("status")).to_have_text("Live")
        # In headers, between frames, in the middle of one.
        relay.stream_bytes = [draw.randint(1, 4_000) for _ in range(12)]
        relay.cut()
        for _ in range(120):
            await core.happen(id_, "weather.seen", {"text": "x" * draw.randint(0, 300)})
            await asyncio.sleep(0.02)
        async with asyncio.timeout(30):
            while relay.stream_bytes:
                await core.happen(id_, "weather.seen", {"text": "y" * 500})
                await asyncio.sleep(0.2)
        await page.get_by_role("button", name=re.compile("Show .* older events")).click(timeout=15_000)
        await all_shown(page, core)()


async def test_list_resumes_too(browser: Browser, core: LivingCore) -> None:
    id_ = await core.announce(1, "Windy weekend")
    async with wired(browser, core, "/") as (page, relay, _):
        await expect(page.get_by_role("status")).to_have_text("Live")
        relay.down = True
        relay.cut()
        await enter(core, id_, 0)
        await core.announce(2, "Rainy Monday")
        relay.down = False
        await expect(page.locator(".cards > li")).to_have_count(2, timeout=15_000)
        await expect(page.get_by_role("link", name=re.compile("Windy"))).to_contain_text("1 / 4 entries")
        # The gateway itself asks for one competition, to learn how far the log is.
        lists = [call for call in core.calls if call.method == LIST and call.request.page_size == 50]
        assert len(lists) == 1, "the stream brought it all"


async def test_device_without_network_is_said(browser: Browser, core: LivingCore) -> None:
    id_ = await core.announce(1, "Windy weekend")
    async with gateway_of(core) as world:
        page, _ = await open_page(browser, world.gateway.url + path_to(id_))
        status = page.get_by_role("status")
        await expect(status).to_have_text("Live")
        await page.context.set_offline(True)
        await expect(status).to_have_text(re.compile("^Offline, as of "))
        await enter(core, id_, 0)
        await page.context.set_offline(False)
        await expect(status).to_have_text("Live", timeout=10_000)
        await all_shown(page, core)()


async def test_log_that_does_not_reach_back_is_admitted(browser: Browser, core: LivingCore) -> None:
    id_ = await core.announce(1, "Windy weekend")
    await enter(core, id_, 0)
    core.log_start = 3
    async with gateway_of(core, event_ring=2, client_queue=1) as world:
        page, _ = await open_page(browser, world.gateway.url + path_to(id_))
        await expect(page.get_by_text("Earlier events are no longer in the server's log.")).to_be_visible()
        await expect(page.get_by_text("1 paid, 0 reserved")).to_be_visible()
        latest = await core.happen(
            id_, "ticket.reserved", {"ticket_id": TICKET.format(1)}, reserved_tickets=1
        )
        await expect(page.locator("[data-sequence]")).to_have_count(1)
        assert await sequences(page) == [latest]
        await expect(page.get_by_text("1 paid, 1 reserved")).to_be_visible()


# --- nothing to show ---


async def test_empty_list_says_so_and_fills(browser: Browser, core: LivingCore) -> None:
    async with gateway_of(core) as world:
        page, _ = await open_page(browser, world.gateway.url)
        await expect(page.get_by_text("There is no competition yet.")).to_be_visible()
        await core.announce(1, "Windy weekend")
        await expect(page.get_by_role("link", name=re.compile("Windy weekend"))).to_be_visible()


async def test_unknown_competition_and_address(browser: Browser, core: LivingCore) -> None:
    async with gateway_of(core) as world:
        page, _ = await open_page(browser, world.gateway.url + path_to(competition_id(9)))
        await expect(page.get_by_role("alert")).to_contain_text("There is no such competition.")
        await page.goto(f"{world.gateway.url}/no/such/page")
        await expect(page.get_by_role("heading", name="There is nothing here")).to_be_visible()
        await page.get_by_role("link", name="All competitions").click()
        await expect(page.get_by_role("heading", name="Competitions")).to_be_visible()


async def test_server_in_trouble_is_waited_for(browser: Browser, core: LivingCore) -> None:
    await core.announce(1, "Windy weekend")
    async with gateway_of(core) as world:
        core.faults[LIST] = Fault(grpc.StatusCode.UNAVAILABLE, "starting")
        page, _ = await open_page(browser, world.gateway.url)
        await expect(page.get_by_text("The coordinator cannot be reached at the moment.")).to_be_visible()
        await expect(page.get_by_role("status")).to_have_text("Reconnecting")
        core.faults.clear()
        await page.get_by_role("button", name="Retry now").click()
        await expect(page.get_by_role("link", name=re.compile("Windy weekend"))).to_be_visible()


async def test_refusal_is_shown_and_can_be_tried_again(browser: Browser, core: LivingCore) -> None:
    await core.announce(1, "Windy weekend")
    async with gateway_of(core) as world:
        core.faults[LIST] = Fault(grpc.StatusCode.PERMISSION_DENIED, "not from your country")
        page, _ = await open_page(browser, world.gateway.url)
        await expect(page.get_by_role("alert")).to_contain_text("not from your country")
        await expect(page.get_by_role("status")).to_have_text("Not connected")
        core.faults.clear()
        await page.get_by_role("button", name="Try again").click()
        await expect(page.get_by_role("link", name=re.compile("Windy weekend"))).to_be_visible()
        await expect(page.get_by_role("alert")).to_have_count(0)


async def test_names_are_text(browser: Browser, core: LivingCore) -> None:
    name = "<img src=x onerror=alert(1)><b>bold</b>"
    id_ = await core.announce(1, name)
    async with gateway_of(core) as world:
        page, problems = await open_page(browser, world.gateway.url + path_to(id_))
        await expect(page.get_by_role("heading", level=1)).to_have_text(name)
        assert await page.locator("img, b").count() == 0
        assert problems == []


async def test_address_of_a_script_is_no_link(browser: Browser) -> None:
    core = LivingCore(esplora_url="javascript:alert(1)//")
    id_ = await core.announce(1, "Windy weekend")
    await enter(core, id_, 0)
    await fund(core, id_)
    async with gateway_of(core) as world:
        page, _ = await open_page(browser, world.gateway.url + path_to(id_))
        await expect(page.get_by_role("region", name="Transactions")).to_contain_text(FUNDING)
        assert await page.locator("a[href^=javascript]").count() == 0


# --- for everybody ---


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_is_readable_and_fits_small_screens(
    browser: Browser, core: LivingCore, scheme: str
) -> None:
    id_ = await core.announce(1, "A" * 100, locations=["KORD", "KSEA", "PANC", "KDEN"])
    for number in range(3):
        await enter(core, id_, number)
    await fund(core, id_)
    failed = await core.announce(2, "Rained out")
    await core.advance(failed, "failed", failure_reason="rain")
    async with gateway_of(core) as world:
        for path in ("/", path_to(id_), path_to(failed), path_to(competition_id(9))):
            page, _ = await open_page(
                browser,
                world.gateway.url + path,
                color_scheme=scheme,
                viewport={"width": 320, "height": 640},
                reduced_motion="reduce",
            )
            await expect(page.get_by_role("status")).to_have_text(re.compile("Live|Not connected"))
            await asyncio.sleep(0.2)
            assert await page.evaluate(CONTRAST) == []
            assert await page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
            assert await page.evaluate("document.getAnimations().length") == 0
            await page.context.close()


async def test_landmarks_and_keyboard(browser: Browser, core: LivingCore) -> None:
    await core.announce(1, "Windy weekend")
    async with gateway_of(core) as world:
        page, _ = await open_page(browser, world.gateway.url)
        await expect(page.get_by_role("link", name=re.compile("Windy weekend"))).to_be_visible()
        for landmark in ("banner", "main", "contentinfo"):
            await expect(page.get_by_role(landmark)).to_have_count(1)
        assert await page.evaluate("document.documentElement.lang") == "en"
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="All", exact=True)).to_be_focused()
        for _ in range(4):
            await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1, name="Windy weekend")).to_be_focused()


async def test_page_needs_nothing_from_elsewhere(browser: Browser, core: LivingCore) -> None:
    id_ = await core.announce(1, "Windy weekend")
    async with gateway_of(core) as world:
        page = await browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await page.goto(world.gateway.url + path_to(id_))
        await expect(page.get_by_role("status")).to_have_text("Live")
        assert all(url.startswith(f"{world.gateway.url}/") for url in asked), asked
        sent = await page.evaluate(
            "performance.getEntriesByType('resource').filter(r => r.name.includes('/assets/'))"
            ".reduce((sum, r) => sum + r.decodedBodySize, 0)"
        )
        assert 0 < sent < 150_000
