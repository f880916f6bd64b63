"""The system's Chromium for tests, and ways to wait for what a page shows.

A page draws in the next frame, and a busy machine may take seconds for one: what follows from an action is waited for,
by Playwright's ``expect`` where it is a text, by `until` where it is anything else.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, BrowserType, Page, expect, sync_playwright

WAIT_S = 240.0
"""How long anything is waited for: a fault shows so late, and nothing that works is ever given up."""
expect.set_options(timeout=1000 * WAIT_S)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser; a test is skipped where there is none."""
    command()
    with sync_playwright() as playwright, launched(playwright.chromium) as browser:
        yield browser


def command() -> str:
    """The path of the system's Chromium; a test is skipped where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None) or pytest.skip("no Chromium on the PATH")


@contextmanager
def launched(kind: BrowserType, *flags: str) -> Iterator[Browser]:
    """A browser of its own, with more flags."""
    args = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required", *flags]
    browser = kind.launch(executable_path=command(), args=args, timeout=1000 * WAIT_S)
    try:
        yield browser
    finally:
        browser.close()


@contextmanager
def context(browser: Browser, **options: Any) -> Iterator[BrowserContext]:
    """A browser's window of its own; options as of Playwright's ``new_context``."""
    opened = browser.new_context(**options)
    opened.set_default_timeout(1000 * WAIT_S)
    try:
        yield opened
    finally:
        opened.close()


def until(page: Page, condition: str) -> None:
    """Waits for a condition in the page (Playwright's own way needs the eval that the explorer forbids)."""
    for _ in range(round(WAIT_S / 0.05)):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never: {condition}")
