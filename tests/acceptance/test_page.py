"""The page in a real browser, on the real command: sign up, a bucket, a text, its expansion."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from llmock.pytest_plugin import LLMock
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from tests import program
from tests.program import Program

NOTE = "boat leaves at six. fog. we nearly missed it because the key was in the other coat"
EXPANSION = "The boat left at six, in a fog so thick that nobody saw the pier until we stood on it."
PASSWORD = "correct horse"
CHROMIUM = Path("/usr/bin/chromium")
# Milliseconds; far more than anything here takes.
PATIENCE = 30_000


@asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    """A browser: the machine's Chromium, else playwright's own; skips without either."""
    async with async_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
        path = next((one for one in (CHROMIUM, own) if one.exists()), None)
        if path is None:
            pytest.skip("there is no Chromium: run scripts/ensure-browser")
        browser = await playwright.chromium.launch(executable_path=path)
        try:
            yield browser
        finally:
            await browser.close()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A browser for one test."""
    async with browsing() as found:
        yield found


@pytest.fixture
async def studio(tmp_path: Path, llmock: LLMock) -> AsyncIterator[Program]:
    """A running `reyna up` with a model that always answers the same."""
    llmock.reply(EXPANSION)
    settings = {"REYNA_TEXT_BASE_URL": llmock.base_url(), "REYNA_TEXT_MODEL": "mock"}
    async with program.up(tmp_path / "data", settings) as running:
        yield running


async def page_of(context: BrowserContext, studio: Program, faults: list[str]) -> Page:
    """The studio's page; what goes wrong in it is added to `faults`."""
    page = await context.new_page()
    page.set_default_timeout(PATIENCE)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    await page.goto(studio.door.url)
    return page


async def sign_up(page: Page, email: str) -> None:
    """Open an account on the page."""
    await page.get_by_test_id("auth-switch").click()
    await page.get_by_test_id("auth-identifier").fill(email)
    await page.get_by_test_id("auth-password").fill(PASSWORD)
    await page.get_by_test_id("auth-submit").click()


async def sign_in(page: Page, email: str) -> None:
    """Sign in on the page."""
    await page.get_by_test_id("auth-identifier").fill(email)
    await page.get_by_test_id("auth-password").fill(PASSWORD)
    await page.get_by_test_id("auth-submit").click()


async def make_bucket(page: Page, name: str) -> None:
    """Make a bucket on the page and open it."""
    await page.get_by_test_id("bucket-name").fill(name)
    await page.get_by_test_id("bucket-create").click()
    await page.get_by_test_id("bucket-item").filter(has_text=name).click()


async def drop(page: Page, text: str) -> None:
    """Drop a text into the open bucket."""
    await page.get_by_test_id("composer-text").fill(text)
    await page.get_by_test_id("composer-submit").click()


async def expect_expanded(page: Page, text: str) -> None:
    """The entry with a text shows it on the left and its expansion on the right."""
    entry = page.get_by_test_id("entry").filter(has_text=text)
    await expect(entry.get_by_test_id("entry-original")).to_contain_text(text, timeout=PATIENCE)
    await expect(entry.get_by_test_id("entry-expansion")).to_contain_text(
        EXPANSION, timeout=PATIENCE
    )


@pytest.mark.timeout(180)
async def test_a_text_grows_on_the_page(browser: Browser, studio: Program) -> None:
    """Signing up, making a bucket and dropping a text shows its expansion, also after a reload."""
    faults: list[str] = []
    context = await browser.new_context()
    page = await page_of(context, studio, faults)
    await sign_up(page, f"{uuid4().hex}@example.com")
    state = page.get_by_test_id("connection-state")
    await expect(state).to_have_attribute("data-state", "live", timeout=PATIENCE)
    await make_bucket(page, "Diary")
    await drop(page, NOTE)
    await expect_expanded(page, NOTE)
    await page.reload()
    await expect_expanded(page, NOTE)
    assert faults == []
    await context.close()


@pytest.mark.timeout(180)
async def test_a_second_page_sees_it_live(browser: Browser, studio: Program) -> None:
    """What is done on one page appears on another of the same user without a reload."""
    faults: list[str] = []
    email = f"{uuid4().hex}@example.com"
    one = await page_of(await browser.new_context(), studio, faults)
    await sign_up(one, email)
    await make_bucket(one, "Diary")
    two = await page_of(await browser.new_context(), studio, faults)
    await sign_in(two, email)
    await two.get_by_test_id("bucket-item").filter(has_text="Diary").click()
    state = two.get_by_test_id("connection-state")
    await expect(state).to_have_attribute("data-state", "live", timeout=PATIENCE)
    await make_bucket(one, "Elsewhere")
    await expect(two.get_by_test_id("bucket-item")).to_have_count(2, timeout=PATIENCE)
    await one.get_by_test_id("bucket-item").filter(has_text="Diary").click()
    await drop(one, NOTE)
    await expect_expanded(two, NOTE)
    await expect_expanded(one, NOTE)
    assert faults == []


@pytest.mark.timeout(180)
async def test_a_wrong_password_is_told_on_the_page(browser: Browser, studio: Program) -> None:
    """A refused sign-in shows the problem's words, and the form stays."""
    page = await page_of(await browser.new_context(), studio, [])
    await sign_in(page, "nobody@example.com")
    await expect(page.get_by_test_id("problem")).to_contain_text("wrong", timeout=PATIENCE)
    await expect(page.get_by_test_id("auth-form")).to_be_visible()


@pytest.mark.timeout(180)
async def test_the_page_returns_to_live_after_a_restart(
    browser: Browser, tmp_path: Path, llmock: LLMock
) -> None:
    """A page whose server goes away says so, and shows what happened when it is back."""
    llmock.reply(EXPANSION)
    settings = {"REYNA_TEXT_BASE_URL": llmock.base_url(), "REYNA_TEXT_MODEL": "mock"}
    folder = tmp_path / "data"
    async with program.up(folder, settings) as studio:
        page = await page_of(await browser.new_context(), studio, [])
        await sign_up(page, f"{uuid4().hex}@example.com")
        await make_bucket(page, "Diary")
        await drop(page, NOTE)
        await expect_expanded(page, NOTE)
        state = page.get_by_test_id("connection-state")
        await expect(state).to_have_attribute("data-state", "live", timeout=PATIENCE)
        port = studio.door.url.rpartition(":")[2]
    await expect(state).not_to_have_attribute("data-state", "live", timeout=PATIENCE)
    async with program.up(folder, settings, port=int(port)):
        await expect(state).to_have_attribute("data-state", "live", timeout=PATIENCE)
        llmock.reply(EXPANSION)
        await drop(page, "another")
        await expect_expanded(page, "another")
