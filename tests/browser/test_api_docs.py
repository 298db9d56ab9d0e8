"""The page at /api/docs in a real browser: it shows the whole API, sends requests, needs nothing else."""

from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, expect

from support.gateway import World, running
from support.web import LivingCore, competition_id

pytestmark = pytest.mark.browser


async def open_docs(browser: Browser, world: World) -> tuple[Page, list[str], list[str]]:
    """The page, everything that was asked for, and everything that went wrong."""
    page = await browser.new_page()
    asked: list[str] = []
    problems: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: problems.append(str(error)))
    # A policy that is broken is said here too; that there is no icon is said with the icon's address.
    page.on(
        "console",
        lambda line: (
            problems.append(line.text)
            if line.type == "error" and not line.location["url"].endswith("/favicon.ico")
            else None
        ),
    )
    await page.goto(f"{world.gateway.url}/api/docs")
    await expect(page.get_by_role("heading", name="CompetitionService")).to_be_visible()
    return page, asked, problems


async def test_every_operation_is_shown_and_nothing_is_asked_of_another_host(browser: Browser) -> None:
    async with running(LivingCore()) as world:
        page, asked, problems = await open_docs(browser, world)
        document = (await world.client.get("/api/openapi.json")).json()
        operations = [
            (verb.upper(), path, operation.get("summary", ""))
            for path, verbs in document["paths"].items()
            for verb, operation in verbs.items()
        ]
        assert len(operations) > 30
        shown = await page.locator("summary").evaluate_all(
            "all => all.map(one => ['.verb', '.path', '.summary'].map(c => one.querySelector(c).textContent))"
        )
        assert sorted(map(tuple, shown)) == sorted(operations)
        # What unfolds may load more; it does not.
        await page.locator("details").evaluate_all("all => all.forEach((one) => { one.open = true; })")
        await expect(page.get_by_role("button", name="Send")).to_have_count(len(operations))
        await page.wait_for_load_state("networkidle")
        assert {urlsplit(url).netloc for url in asked} == {urlsplit(world.gateway.url).netloc}, asked
        assert {urlsplit(url).path for url in asked} == {
            "/api/docs",
            "/api/docs/docs.css",
            "/api/docs/docs.js",
            "/api/openapi.json",
        }
        assert problems == []


async def test_a_request_is_sent_and_its_answer_shown(browser: Browser) -> None:
    core = LivingCore()
    await core.announce(1, "Windy weekend")
    async with running(core) as world:
        page, _, problems = await open_docs(browser, world)
        operation = page.locator("details").filter(has=page.get_by_text("One competition", exact=True))
        await operation.locator("summary").click()
        await operation.get_by_label("competition_id").fill(competition_id(1))
        await operation.get_by_role("button", name="Send").click()
        answer = operation.locator("pre").last
        await expect(answer).to_contain_text("200 OK")
        await expect(answer).to_contain_text('"name": "Windy weekend"')
        assert problems == []
        await operation.get_by_label("competition_id").fill(competition_id(9))
        await operation.get_by_role("button", name="Send").click()
        await expect(answer).to_contain_text("404 Not Found")
        await expect(answer).to_contain_text("no competition has this id")


async def test_text_of_the_document_is_text(browser: Browser) -> None:
    """An answer with markup in it stays text."""
    core = LivingCore()
    await core.announce(1, "<img src=x onerror=alert(1)>")
    async with running(core) as world:
        page, _, problems = await open_docs(browser, world)
        operation = page.locator("details").filter(
            has=page.get_by_text("Competitions, newest first, in pages", exact=True)
        )
        await operation.locator("summary").click()
        await operation.get_by_role("button", name="Send").click()
        await expect(operation.locator("pre").last).to_contain_text("<img src=x onerror=alert(1)>")
        assert await page.locator("img").count() == 0
        assert problems == []
