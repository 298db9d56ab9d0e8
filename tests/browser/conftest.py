"""A Chromium for each test, or a reason why there is none."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, async_playwright

from support.browser import ARGUMENTS, CHROMIUM, why_not


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    if reason := why_not():
        pytest.skip(reason)
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield launched
        await launched.close()
