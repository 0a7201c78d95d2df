"""The Chromium of this machine, for every test that looks at a page."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

# Quiet and self-contained: no sandbox (the tests may run as root), no calls home.
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
_FLAGS += ["--disable-component-update", "--disable-sync"]
_WATCH = """
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));
"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Headless, in a fresh profile. Skips the test where none is installed: Playwright's own is not downloaded."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if binary is None:
        pytest.skip("no Chromium on this machine: install the package `chromium` to run the tests of the chat page")
    expect.set_options(timeout=15_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, headless=True, args=_FLAGS)
        yield browser
        browser.close()


@contextmanager
def visit(browser: Browser, url: str, path: str = "/", **context: Any) -> Iterator[Page]:
    """A page of the server at `url`, loaded, in a fresh profile. Whatever is done on it: no other host is asked, no
    policy violated, no error uncaught."""
    asked: list[str] = []
    mistakes: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    with browser.new_context(**context) as profile:
        profile.set_default_timeout(30_000)
        page = profile.new_page()
        page.on("request", note)
        page.on("pageerror", lambda error: mistakes.append(str(error)))
        page.add_init_script(_WATCH)
        page.goto(f"{url}{path}")
        yield page
        assert [address for address in asked if not address.startswith(f"{url}/")] == []
        assert page.evaluate("violations") == []
        assert mistakes == []
