"""The TypeScript client in a browser, on a page of another origin than the gateway."""

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page

from support.typescript import CLIENT, Stage, bundle, stage_of_core, stage_of_streams, why_not

pytestmark = [pytest.mark.browser, pytest.mark.skipif(bool(why_not()), reason=why_not())]


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return bundle(CLIENT / "test" / "browser.ts", tmp_path / "script.js", "--platform=browser")


async def open_page(browser: Browser, stage: Stage) -> Page:
    page = await browser.new_page()
    await page.goto(stage.control_url)
    await page.wait_for_function("globalThis.playScenario !== undefined")
    return page


async def play_all(page: Page, part: str) -> dict[str, Any]:
    """What each scenario of a part ended with: empty if well."""
    outcome = {}
    for name in await page.evaluate("part => scenarioNames(part)", part):
        outcome[name] = await page.evaluate(
            "([part, name]) => playScenario(part, name).then(() => '', (error) => String(error.stack))",
            [part, name],
        )
    return outcome


async def test_streams_in_a_browser(browser: Browser, script: Path) -> None:
    async with stage_of_streams(script) as stage:
        outcome = await play_all(await open_page(browser, stage), "streams")
    assert len(outcome) > 5
    assert {name: error for name, error in outcome.items() if error} == {}


async def test_calls_in_a_browser(browser: Browser, script: Path, tmp_path: Path) -> None:
    async with stage_of_core(tmp_path, script) as stage:
        outcome = await play_all(await open_page(browser, stage), "core")
    assert len(outcome) > 3
    assert {name: error for name, error in outcome.items() if error} == {}
