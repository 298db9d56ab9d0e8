"""The browser app on the real stack, in a real browser: it follows a competition live and survives lost
connections.
"""

import asyncio
import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from support.browser import WEB_DIR, sequences
from support.stack import StackPlace, documents, finish, running_stack

pytestmark = pytest.mark.browser


async def test_list_and_timeline_follow_a_competition_live(tmp_path: Path, browser: Browser) -> None:
    place = StackPlace(tmp_path)
    async with running_stack(place, "--web-dir", str(WEB_DIR)):
        problems: list[str] = []
        context = await browser.new_context()
        listing = await context.new_page()
        listing.on("pageerror", lambda error: problems.append(str(error)))
        listing.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
        await listing.goto(place.gateway_url)
        await expect(listing.get_by_text("There is no competition yet")).to_be_visible()
        await expect(listing.get_by_role("status")).to_have_text("Live")

        demo = await place.start("demo", "--json")
        card = listing.get_by_role("link", name=re.compile("Demonstration of 3 players"))
        await expect(card).to_be_visible(timeout=20_000)
        detail = await context.new_page()
        detail.on("pageerror", lambda error: problems.append(str(error)))
        href = await card.get_attribute("href")
        await detail.goto(f"{place.gateway_url}{href}")
        # The connection breaks in the middle; the page says so and goes on by itself.
        await context.set_offline(True)
        await asyncio.sleep(1)
        await context.set_offline(False)

        code, output, errors = await finish(demo)
        assert code == 0, errors
        events, result = documents(output)
        assert result is not None
        await expect(card).to_contain_text("Completed", timeout=20_000)
        await expect(detail.locator("[aria-current=step]")).to_contain_text("Completed", timeout=20_000)
        await expect(detail.locator(".timeline .done")).to_have_count(16)
        # No split and no expiry.
        await expect(detail.locator(".timeline .skipped")).to_have_count(2)
        await expect(detail.locator("[data-sequence]")).to_have_count(len(events), timeout=20_000)
        assert await sequences(detail) == [event["sequence"] for event in events]
        funding = result["txids"]["funding"][0]
        link = detail.get_by_role("link", name=funding).first
        await expect(link).to_have_attribute("href", f"{place.chain_url}/tx/{funding}")
        # The browser itself logs the requests that failed while it was offline.
        assert [problem for problem in problems if "net::ERR_" not in problem] == []


async def test_an_address_without_a_competition_says_so(tmp_path: Path, browser: Browser) -> None:
    place = StackPlace(tmp_path)
    async with running_stack(place, "--web-dir", str(WEB_DIR)):
        page = await browser.new_page(viewport={"width": 380, "height": 800})
        await page.goto(f"{place.gateway_url}/competitions/01900000-0000-7000-8000-000000000000")
        await expect(page.get_by_role("alert")).to_contain_text("there is no competition")
        await page.goto(f"{place.gateway_url}/no/such/page")
        await expect(page.get_by_role("heading", name="There is nothing here")).to_be_visible()
