"""The administration's page on a real core: signing in with a key or an extension, and everything it does."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, Page, expect

from coordinator_client.nostr import NostrKey
from coordinator_gateway.config import GatewayConfig
from support.api import ADMIN, GATEWAY_TOKEN, Api, running_api
from support.browser import CONTRAST, WEB_DIR
from support.gateway import RunningGateway, free_port

pytestmark = pytest.mark.browser


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[tuple[str, Api]]:
    """Where the app is, and the core behind it."""
    async with running_api(folder, admin_npubs=ADMIN.npub) as api:
        gateway = RunningGateway(
            GatewayConfig(
                core=f"127.0.0.1:{api.port}", port=free_port(), token=GATEWAY_TOKEN, web_dir=WEB_DIR
            )
        )
        await gateway.start()
        try:
            await gateway.hub.ready.wait()
            yield gateway.url, api
        finally:
            await gateway.stop()


async def sign_in(page: Page, url: str, key: str) -> None:
    await page.goto(f"{url}/admin")
    await page.get_by_label("Secret key").fill(key)
    await page.get_by_role("button", name="Sign in with this key").click()


async def test_a_competition_is_created_paused_inspected_and_cancelled(
    browser: Browser, tmp_path: Path
) -> None:
    async with site(tmp_path) as (url, _):
        page = await browser.new_page()
        problems: list[str] = []
        sent: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: sent.append(f"{request.headers}{request.post_data}"))
        await sign_in(page, url, ADMIN.nsec)
        await expect(page.get_by_text(ADMIN.npub)).to_be_visible()
        await expect(page.get_by_role("region", name="Wallet")).to_contain_text(
            re.compile(r"Confirmed[\d,]+ sats")
        )
        await expect(page.get_by_text("There is none yet.")).to_be_visible()

        await page.get_by_text("Its terms").click()
        await page.get_by_label("Name", exact=True).fill("Windy weekend")
        await page.get_by_label("Stations").fill("KORD, KDEN")
        await page.get_by_label("Predictions per entry").fill("99")
        await page.get_by_role("button", name="Create").click()
        await expect(page.get_by_label("Predictions per entry")).to_have_attribute("aria-invalid", "true")
        await page.get_by_label("Predictions per entry").fill("4")
        await page.get_by_role("button", name="Create").click()
        await expect(page.get_by_text("“Windy weekend” is created.")).to_be_visible()

        row = page.locator(".rows > li")
        await expect(row).to_have_count(1)
        await expect(row).to_contain_text("Announced")
        await row.get_by_role("button", name="Pause").click()
        await expect(row).to_contain_text("sale paused")
        await row.get_by_role("button", name="Resume").click()
        await expect(row).not_to_contain_text("sale paused")
        await row.get_by_role("button", name="Retry now").click()
        await expect(row.get_by_role("button", name="Retry now")).to_be_enabled()
        await row.get_by_role("button", name="Inspect").click()
        inspection = row.get_by_role("region", name="Inspection")
        await expect(inspection).to_contain_text("The last step went well.")
        await expect(inspection).to_contain_text("Announced")
        await inspection.get_by_text("Stored state").click()
        await expect(inspection.locator("pre")).to_contain_text("{")

        await row.get_by_role("button", name="Cancel…").click()
        dialog = page.get_by_role("dialog", name="Cancel Windy weekend")
        await dialog.get_by_role("button", name="Keep it").click()
        await expect(dialog).to_be_hidden()
        await row.get_by_role("button", name="Cancel…").click()
        await dialog.get_by_label("Reason, shown to the players").fill("no stations")
        await dialog.get_by_role("button", name="Cancel the competition").click()
        await expect(row).to_contain_text("Cancelled")
        await expect(row.get_by_role("button", name="Cancel…")).to_have_count(0)
        await expect(row.get_by_role("button", name="Pause")).to_have_count(0)

        await row.get_by_role("link", name="Windy weekend").click()
        await expect(page.get_by_text("Why it was cancelled: no stations")).to_be_visible()
        await page.go_back()
        # Still signed in; loading the page anew forgets the key.
        await expect(page.get_by_text(ADMIN.npub)).to_be_visible()
        assert await page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [
            0,
            0,
            "",
        ]
        await page.reload()
        await expect(page.get_by_label("Secret key")).to_have_value("")
        secrets = (ADMIN.nsec, ADMIN.secret_bytes.hex())
        assert not [text for text in sent if any(secret in text for secret in secrets)]
        assert problems == []


async def test_an_extension_signs_and_the_page_never_sees_a_key(browser: Browser, tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []

    def sign(event: dict[str, Any]) -> dict[str, Any]:
        tags = dict(event["tags"])
        asked.append((tags["method"], tags["u"]))
        return ADMIN.sign_event(
            kind=event["kind"], created_at=event["created_at"], tags=event["tags"], content=event["content"]
        ).to_dict()

    async with site(tmp_path) as (url, api):
        await api.world.create(name="Rainy Monday")
        page = await browser.new_page()
        await page.expose_function("sign", sign)
        await page.add_init_script("window.nostr = { signEvent: (event) => window.sign(event) }")
        await page.goto(f"{url}/admin")
        await page.get_by_role("button", name="Sign in with the browser's extension").click()
        row = page.locator(".rows > li")
        await expect(row).to_contain_text("Rainy Monday")
        await row.get_by_role("button", name="Inspect").click()
        await expect(row.get_by_role("region", name="Inspection")).to_be_visible()
        assert asked == [("POST", f"{url}/api/v1/users/login")], "reading asks for no signature"
        await row.get_by_role("button", name="Pause").click()
        await expect(row).to_contain_text("sale paused")
        assert [method for method, _ in asked] == ["POST", "POST"]
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_label("Secret key")).to_be_visible()
        assert len(asked) == 2
        await expect(page.get_by_role("button", name="Sign in with the browser's extension")).to_be_visible()


async def test_others_are_told_that_they_are_no_admin(browser: Browser, tmp_path: Path) -> None:
    stranger = NostrKey.generate()
    async with site(tmp_path) as (url, _):
        page = await browser.new_page()
        await sign_in(page, url, "nsec1nonsense")
        await expect(page.get_by_role("alert")).to_contain_text("This is no secret key")
        await page.get_by_label("Secret key").fill(stranger.nsec)
        await page.get_by_role("button", name="Sign in with this key").click()
        await expect(page.get_by_role("alert")).to_contain_text(
            f"{stranger.npub} is not an admin of this coordinator."
        )
        assert await page.context.cookies() == []


async def test_a_session_that_ended_asks_to_sign_in_again(browser: Browser, tmp_path: Path) -> None:
    async with site(tmp_path) as (url, api):
        await api.world.create(name="Rainy Monday")
        page = await browser.new_page()
        await sign_in(page, url, ADMIN.secret_bytes.hex())
        row = page.locator(".rows > li")
        await expect(row).to_be_visible()
        [cookie] = await page.context.cookies()
        assert cookie["httpOnly"]
        assert cookie["sameSite"] == "Strict"
        async with httpx.AsyncClient() as client:
            bearer = {"authorization": f"Bearer {cookie['value']}"}
            ended = await client.post(f"{url}/api/v1/users/logout", json={}, headers=bearer)
            assert ended.status_code == 200
        await row.get_by_role("button", name="Inspect").click()
        await expect(page.get_by_label("Secret key")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_administration_is_readable_and_fits_small_screens(
    browser: Browser, tmp_path: Path, scheme: Any
) -> None:
    async with site(tmp_path) as (url, api):
        await api.world.create(name="A" * 100)
        page = await browser.new_page(color_scheme=scheme, viewport={"width": 320, "height": 640})
        for key in ("nonsense", ADMIN.nsec):
            await sign_in(page, url, key)
            await expect(page.locator("[role=alert], .rows > li")).to_have_count(1)
            if key == ADMIN.nsec:
                await page.get_by_text("Its terms").click()
                await page.get_by_role("button", name="Inspect").click()
                await expect(page.get_by_role("region", name="Inspection")).to_be_visible()
            assert await page.evaluate(CONTRAST) == []
            assert await page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
