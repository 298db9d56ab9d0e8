"""The TypeScript client in a browser, on a page of another origin than the gateway."""

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page

from support.api import ADMIN
from support.typescript import (
    CLIENT,
    Stage,
    bundle,
    example_at,
    examples,
    life,
    stage_of_core,
    stage_of_streams,
    why_not,
)
from support.web import LivingCore

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


# As an extension is: the page knows of no key.
EXTENSION = """window.nostr = {
  signEvent: async (event) => (await fetch("/control/sign", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ who: "admin", event }),
  })).json(),
}"""


async def run_example(browser: Browser, stage: Stage, folder: Path, heading: str) -> str:
    """What an example writes to the console."""
    module = example_at(folder, heading, stage.url)
    module.write_text(f"{module.read_text()}\nObject.assign(globalThis, {{ done: true }});\n")
    page = await browser.new_page()
    lines: list[str] = []
    page.on("console", lambda line: lines.append(line.text))
    page.on("pageerror", lambda error: lines.append(str(error)))
    await page.add_init_script(EXTENSION)
    bundle(module, folder / "script.js")
    await page.goto(stage.control_url)
    try:
        await page.wait_for_function("globalThis.done")
    except Exception as error:
        raise AssertionError("\n".join(lines)) from error
    return "\n".join(lines)


async def test_examples_run_in_a_browser(browser: Browser, tmp_path: Path) -> None:
    core = LivingCore()
    async with life(core), stage_of_streams(tmp_path / "script.js", core) as stage:
        for heading in examples():
            if heading != "Keys":
                assert await run_example(browser, stage, tmp_path, heading)


async def test_example_of_keys_runs_with_an_extension(browser: Browser, tmp_path: Path) -> None:
    async with stage_of_core(tmp_path, tmp_path / "script.js") as stage:
        said = await run_example(browser, stage, tmp_path, "Keys")
    assert said == f"{ADMIN.npub} is an admin\n0"
